/*
 * Paced UDP load that counts what arrives, both ways, at next to no cost on the cores being measured.
 *
 *   udpload serve HOST PORT                                    takes and sends load; prints "listening PORT"
 *   udpload up HOST PORT SIZE PER_SECOND MILLISECONDS [SEGMENTS]
 *   udpload down HOST PORT SIZE PER_SECOND MILLISECONDS [SEGMENTS]
 *
 * The client starts both directions, so that it works from behind NAT; it prints one JSON line. PER_SECOND 0 means as
 * fast as it goes. With SEGMENTS above 1 the kernel gets that many packets in one piece (UDP_SEGMENT), as from QUIC.
 * Every packet is counted once: `received` holds distinct sequence numbers.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
  BATCH = 32,             /* packets per system call */
  MAX_SIZE = 1472,
  MAX_SEGMENTS = 40,
  MAX_PACKETS = 1 << 26,  /* of one run, for the map of what has arrived */
  BUFFER = 8 << 20,       /* of the socket: the receiver must not be what loses packets */
  NAP_NS = 100000,        /* between bursts */
  QUIET_MS = 300,         /* silence that ends a run whose end was lost */
  MAGIC = 0x47554450,
};

enum kind { DATA = 1, ASK, ANSWER, START, END };

/* On every packet; both ends are this program on one machine. */
struct header {
  uint32_t magic, kind, run, size, per_second, milliseconds, segments, unused;
  uint64_t number; /* of the packet; in ANSWER what was received, in END what was sent */
  double seconds;  /* in ANSWER from the first packet to the last */
};

struct tally {
  uint32_t run;
  uint64_t received, duplicates;
  double first, last;
  uint8_t *seen;
};

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void fail(const char *what) {
  fprintf(stderr, "udpload: %s: %s\n", what, strerror(errno));
  exit(1);
}

static struct sockaddr_in address_of(const char *host, const char *port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
  if (inet_pton(AF_INET, host, &address.sin_addr) != 1) {
    fprintf(stderr, "udpload: %s is not an IPv4 address\n", host);
    exit(2);
  }
  return address;
}

static int open_socket(void) {
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), size = BUFFER;
  if (fd < 0) fail("socket");
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
  return fd;
}

static void wait_at_most(int fd, int milliseconds) {
  struct timeval limit = {.tv_sec = milliseconds / 1000, .tv_usec = milliseconds % 1000 * 1000};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
}

/* Sends what is due, then naps; whole bursts of `segments` packets. Returns how many packets were sent. */
static uint64_t send_load(int fd, const struct sockaddr_in *to, const struct header *order) {
  static uint8_t bytes[BATCH][MAX_SIZE * MAX_SEGMENTS];
  uint32_t size = order->size, segments = order->segments;
  uint32_t pieces = segments > 1 ? 1 : BATCH;
  struct mmsghdr messages[BATCH] = {0};
  struct iovec parts[BATCH];
  int gso = segments > 1 ? (int)size : 0;
  setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &gso, sizeof gso);
  for (uint32_t i = 0; i < BATCH; i++) {
    parts[i] = (struct iovec){bytes[i], (size_t)size * segments};
    messages[i].msg_hdr = (struct msghdr){
        .msg_name = (void *)to, .msg_namelen = sizeof *to, .msg_iov = &parts[i], .msg_iovlen = 1};
  }
  uint64_t sent = 0;
  double start = now(), end = start + order->milliseconds / 1e3;
  for (double t = start; t < end && sent < MAX_PACKETS - BATCH * MAX_SEGMENTS; t = now()) {
    uint64_t due = order->per_second ? (uint64_t)((t - start) * order->per_second) : sent + (uint64_t)pieces * segments;
    uint64_t wanted = due > sent ? (due - sent) / segments : 0;
    if (wanted == 0) {
      nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
      continue;
    }
    if (wanted > pieces) wanted = pieces;
    for (uint64_t i = 0; i < wanted; i++)
      for (uint32_t s = 0; s < segments; s++)
        *(struct header *)(bytes[i] + (size_t)s * size) =
            (struct header){.magic = MAGIC, .kind = DATA, .run = order->run, .number = sent + i * segments + s};
    int done = sendmmsg(fd, messages, (unsigned)wanted, 0);
    if (done > 0) sent += (uint64_t)done * segments;
    else if (errno != EAGAIN && errno != EINTR && errno != ENOBUFS && errno != ECONNREFUSED) fail("sendmmsg");
  }
  gso = 0;
  setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &gso, sizeof gso);
  return sent;
}

static void count(struct tally *tally, const struct header *packet) {
  if (tally->run != packet->run) {
    uint8_t *seen = tally->seen ? tally->seen : malloc(MAX_PACKETS / 8);
    if (!seen) fail("malloc");
    memset(seen, 0, MAX_PACKETS / 8);
    *tally = (struct tally){.run = packet->run, .first = now(), .seen = seen};
  }
  if (packet->number >= MAX_PACKETS) return;
  uint8_t bit = (uint8_t)(1 << (packet->number & 7)), *byte = &tally->seen[packet->number >> 3];
  if (*byte & bit) {
    tally->duplicates++;
    return;
  }
  *byte |= bit;
  tally->received++;
  tally->last = now();
}

/* Receives a batch: counts data, leaves the last other message in `other`. Returns how many packets came. */
static int receive(int fd, struct tally *tally, struct header *other, struct sockaddr_in *from) {
  static uint8_t bytes[BATCH][MAX_SIZE];
  static struct sockaddr_in senders[BATCH];
  struct mmsghdr messages[BATCH] = {0};
  struct iovec parts[BATCH];
  for (uint32_t i = 0; i < BATCH; i++) {
    parts[i] = (struct iovec){bytes[i], MAX_SIZE};
    messages[i].msg_hdr = (struct msghdr){
        .msg_name = &senders[i], .msg_namelen = sizeof senders[i], .msg_iov = &parts[i], .msg_iovlen = 1};
  }
  other->kind = 0;
  int got = recvmmsg(fd, messages, BATCH, MSG_WAITFORONE, NULL);
  for (int i = 0; i < got; i++) {
    struct header packet;
    if (messages[i].msg_len < sizeof packet) continue;
    memcpy(&packet, bytes[i], sizeof packet);
    if (packet.magic != MAGIC) continue;
    if (packet.kind == DATA) {
      count(tally, &packet);
      continue;
    }
    *other = packet;
    *from = senders[i];
  }
  return got;
}

static void say(int fd, const struct sockaddr_in *to, struct header message) {
  message.magic = MAGIC;
  /* A control message that does not get through is asked for again. */
  (void)!sendto(fd, &message, sizeof message, 0, (const struct sockaddr *)to, sizeof *to);
}

static int serve(char **argv) {
  struct sockaddr_in address = address_of(argv[0], argv[1]), from;
  int fd = open_socket();
  if (bind(fd, (struct sockaddr *)&address, sizeof address)) fail("bind");
  printf("listening %u\n", ntohs(address.sin_port));
  fflush(stdout);
  struct tally tally = {0};
  struct header message;
  uint32_t served = 0;
  uint64_t sent = 0;
  pid_t parent = getppid();
  wait_at_most(fd, 1000);
  while (getppid() == parent) {
    receive(fd, &tally, &message, &from);
    if (message.kind == ASK)
      say(fd, &from, (struct header){.kind = ANSWER, .run = message.run,
                                     .number = tally.run == message.run ? tally.received : 0,
                                     .seconds = tally.last - tally.first});
    if (message.kind == START) {
      if (message.run != served) sent = send_load(fd, &from, &message);
      served = message.run;
      say(fd, &from, (struct header){.kind = END, .run = message.run, .number = sent});
    }
  }
  return 0;
}

static void report(const struct header *order, uint64_t sent, uint64_t received, double seconds) {
  if (seconds < order->milliseconds / 1e3) seconds = order->milliseconds / 1e3;
  double lost = sent ? 100.0 * (double)(sent - received) / (double)sent : 100;
  printf("{\"sent\":%llu,\"received\":%llu,\"seconds\":%.4f,\"perSecond\":%.0f,\"lossPercent\":%.3f}\n",
         (unsigned long long)sent, (unsigned long long)received, seconds,
         (double)received / seconds, lost);
  exit(received ? 0 : 1);
}

static int up(int fd, const struct sockaddr_in *to, const struct header *order) {
  struct sockaddr_in from;
  struct tally tally = {0};
  struct header message;
  uint64_t sent = send_load(fd, to, order);
  wait_at_most(fd, QUIET_MS);
  for (uint64_t last = UINT64_MAX, tries = 0; tries < 20; tries++) {
    say(fd, to, (struct header){.kind = ASK, .run = order->run});
    receive(fd, &tally, &message, &from);
    if (message.kind != ANSWER || message.run != order->run) continue;
    /* Asked again until the figure stands: packets may still be on their way. */
    if (message.number == last) report(order, sent, message.number, message.seconds);
    last = message.number;
    nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
  }
  fprintf(stderr, "udpload: no answer from the server\n");
  return 1;
}

static int down(int fd, const struct sockaddr_in *to, const struct header *order) {
  struct sockaddr_in from;
  struct tally tally = {0};
  struct header message;
  wait_at_most(fd, QUIET_MS);
  double end = now() + order->milliseconds / 1e3 + 3;
  say(fd, to, *order);
  while (now() < end) {
    int got = receive(fd, &tally, &message, &from);
    if (message.kind == END && message.run == order->run) {
      uint64_t sent = message.number;
      while (receive(fd, &tally, &message, &from) > 0) continue;
      report(order, sent, tally.received, tally.last - tally.first);
    }
    /* Silence: the order or its end was lost. A server that has served this run only repeats the end. */
    if (got <= 0) say(fd, to, *order);
  }
  fprintf(stderr, "udpload: no end from the server\n");
  return 1;
}

int main(int argc, char **argv) {
  if (argc == 4 && !strcmp(argv[1], "serve")) return serve(argv + 2);
  int is_up = argc > 1 && !strcmp(argv[1], "up");
  if (argc < 7 || argc > 8 || (!is_up && strcmp(argv[1], "down"))) {
    fprintf(stderr, "usage: udpload serve HOST PORT | up|down HOST PORT SIZE PER_SECOND MILLISECONDS [SEGMENTS]\n");
    return 2;
  }
  struct sockaddr_in to = address_of(argv[2], argv[3]);
  struct header order = {.magic = MAGIC, .kind = START, .run = (uint32_t)(now() * 1e6) | 1,
                         .size = (uint32_t)atoi(argv[4]), .per_second = (uint32_t)atoi(argv[5]),
                         .milliseconds = (uint32_t)atoi(argv[6]), .segments = argc == 8 ? (uint32_t)atoi(argv[7]) : 1};
  if (order.size < sizeof order || order.size > MAX_SIZE || order.segments < 1 || order.segments > MAX_SEGMENTS) {
    fprintf(stderr, "udpload: SIZE is %zu to %d, SEGMENTS 1 to %d\n", sizeof order, MAX_SIZE, MAX_SEGMENTS);
    return 2;
  }
  int fd = open_socket();
  return is_up ? up(fd, &to, &order) : down(fd, &to, &order);
}
