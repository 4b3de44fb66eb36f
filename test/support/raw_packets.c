/*
 * Puts packets that no honest host sends straight onto an interface, below the kernel's own checks.
 *
 *   raw_packets INTERFACE SOURCE DESTINATION COUNT SEED
 *
 * IPv4 addresses; every seventh packet comes from SOURCE to DESTINATION with a right header and nonsense behind it,
 * the others are broken one way each. Prints how many the interface took.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_PACKET = 1280, KINDS = 7 };

static uint64_t state;

static uint32_t next(void) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return (uint32_t)(state >> 16);
}

static uint16_t checksum(const uint8_t *header, size_t length) {
  uint32_t sum = 0;
  for (size_t i = 0; i + 1 < length; i += 2) sum += (uint32_t)header[i] << 8 | header[i + 1];
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return (uint16_t)~sum;
}

/* Fills a packet and returns its length. */
static size_t make(uint8_t *bytes, unsigned kind, uint32_t source, uint32_t destination) {
  static const uint8_t protocols[] = {1, 6, 17, 47, 58, 132, 0, 255};
  size_t length = 20 + next() % (MAX_PACKET - 20);
  for (size_t i = 0; i < length; i++) bytes[i] = (uint8_t)next();
  struct iphdr ip = {.version = 4, .ihl = 5, .tot_len = htons((uint16_t)length), .id = (uint16_t)next(), .ttl = 64,
                     .protocol = protocols[next() % sizeof protocols], .saddr = source, .daddr = destination};
  if (kind == 1) ip.saddr = next();                             /* somebody else's source */
  if (kind == 2) ip.tot_len = htons((uint16_t)next());          /* a length that is not the packet's */
  if (kind == 3) ip.ihl = next() % 16;                          /* options of any length, or a short header */
  if (kind == 4) ip.frag_off = htons((uint16_t)next());         /* fragments of nothing */
  if (kind == 5) ip.daddr = htonl(0xe0000000 | (next() & 0xff)); /* multicast */
  memcpy(bytes, &ip, sizeof ip);
  if (kind == 6) return 1 + next() % 19; /* less than a header */
  if (kind != 2 || next() % 2) {
    uint16_t sum = htons(checksum(bytes, sizeof ip));
    memcpy(bytes + 10, &sum, sizeof sum);
  }
  return length;
}

int main(int argc, char **argv) {
  if (argc != 6) {
    fprintf(stderr, "usage: raw_packets INTERFACE SOURCE DESTINATION COUNT SEED\n");
    return 2;
  }
  struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP), .sll_ifindex = (int)if_nametoindex(argv[1])};
  struct in_addr source, destination;
  int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, htons(ETH_P_IP));
  if (!to.sll_ifindex || fd < 0 || inet_pton(AF_INET, argv[2], &source) != 1 || inet_pton(AF_INET, argv[3], &destination) != 1) {
    fprintf(stderr, "raw_packets: %s\n", strerror(errno));
    return 1;
  }
  state = strtoull(argv[5], NULL, 10) * 0x9e3779b97f4a7c15u | 1;
  uint8_t bytes[MAX_PACKET];
  unsigned taken = 0;
  for (unsigned i = 0, count = (unsigned)atoi(argv[4]); i < count; i++) {
    size_t length = make(bytes, i % KINDS, source.s_addr, destination.s_addr);
    for (int tries = 0; tries < 100; tries++) {
      if (sendto(fd, bytes, length, 0, (struct sockaddr *)&to, sizeof to) >= 0) {
        taken++;
        break;
      }
      if (errno != ENOBUFS && errno != EAGAIN) break; /* the interface refuses this one */
      usleep(1000);
    }
  }
  printf("%u\n", taken);
  return taken ? 0 : 1;
}
