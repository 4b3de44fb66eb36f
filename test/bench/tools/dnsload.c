/*
 * DNS queries at a steady rate, and a server that answers everything, at next to no cost on the cores being measured.
 *
 *   dnsload serve HOST PORT                              answers every query with 192.0.2.1; prints "listening PORT"
 *   dnsload ask HOST PORT PER_SECOND MILLISECONDS NAME.. A queries for the names in turn; prints one JSON line
 *   dnsload until HOST PORT NAME                         asks once a millisecond; prints "found" at the first address
 *
 * A query that has no answer when the run ends, or whose answer has no record, counts as failed.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
  MAX_SIZE = 512,
  MAX_QUERIES = 60000, /* of one run: their 16-bit ids must differ */
  GRACE_MS = 500,      /* for the last answers */
  GIVE_UP_S = 30,
};

static double asked[MAX_QUERIES];
static float micros[MAX_QUERIES];

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void fail(const char *what) {
  fprintf(stderr, "dnsload: %s: %s\n", what, strerror(errno));
  exit(1);
}

static struct sockaddr_in address_of(const char *host, const char *port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
  if (inet_pton(AF_INET, host, &address.sin_addr) != 1) {
    fprintf(stderr, "dnsload: %s is not an IPv4 address\n", host);
    exit(2);
  }
  return address;
}

/* Writes a query for A; returns its length. */
static size_t write_query(uint8_t *bytes, uint16_t id, const char *name) {
  const uint8_t header[12] = {(uint8_t)(id >> 8), (uint8_t)id, 1, 0, 0, 1};
  memcpy(bytes, header, sizeof header);
  uint8_t *at = bytes + sizeof header;
  if (strlen(name) > 200) fail("name");
  while (*name) {
    size_t length = strcspn(name, ".");
    *at++ = (uint8_t)length;
    memcpy(at, name, length);
    at += length;
    name += length + (name[length] == '.');
  }
  const uint8_t rest[] = {0, 0, 1, 0, 1};
  memcpy(at, rest, sizeof rest);
  return (size_t)(at - bytes) + sizeof rest;
}

static int compare(const void *a, const void *b) {
  float x = *(const float *)a, y = *(const float *)b;
  return (x > y) - (x < y);
}

static int connected(char **argv) {
  struct sockaddr_in to = address_of(argv[0], argv[1]);
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to)) fail("connect");
  return fd;
}

static int serve(char **argv) {
  static const uint8_t record[] = {0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 192, 0, 2, 1};
  struct sockaddr_in address = address_of(argv[0], argv[1]), from;
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (bind(fd, (struct sockaddr *)&address, sizeof address)) fail("bind");
  printf("listening %u\n", ntohs(address.sin_port));
  fflush(stdout);
  struct timeval limit = {.tv_sec = 1};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  pid_t parent = getppid();
  while (getppid() == parent) {
    uint8_t bytes[MAX_SIZE + sizeof record];
    socklen_t size = sizeof from;
    ssize_t got = recvfrom(fd, bytes, MAX_SIZE, 0, (struct sockaddr *)&from, &size);
    if (got < 17) continue;
    size_t end = 12;
    while (end < (size_t)got && bytes[end]) end += bytes[end] + 1u;
    end += 5;
    if (end > (size_t)got) continue;
    bytes[2] = 0x81;
    bytes[3] = 0x80;
    bytes[7] = 1;                /* one answer */
    memset(bytes + 8, 0, 4);     /* and nothing of what else the query had */
    memcpy(bytes + end, record, sizeof record);
    (void)!sendto(fd, bytes, end + sizeof record, 0, (struct sockaddr *)&from, size);
  }
  return 0;
}

static int ask(int names, char **argv) {
  int fd = connected(argv);
  double per_second = atof(argv[2]), milliseconds = atof(argv[3]);
  size_t wanted = (size_t)(per_second * milliseconds / 1e3), sent = 0, answered = 0, empty = 0;
  if (wanted < 1 || wanted > MAX_QUERIES) fail("queries");
  for (double start = now(), end = start + (milliseconds + GRACE_MS) / 1e3; sent < wanted || answered + empty < sent;) {
    double time = now(), next = sent < wanted ? start + (double)sent / per_second : end;
    if (time > end) break;
    uint8_t bytes[MAX_SIZE];
    if (time >= next && sent < wanted) {
      size_t length = write_query(bytes, (uint16_t)sent, argv[4 + sent % (size_t)names]);
      asked[sent] = now();
      if (send(fd, bytes, length, 0) < 0 && errno != ECONNREFUSED && errno != ENOBUFS) fail("send");
      sent++;
      continue;
    }
    double left = next - time;
    struct timespec wait = {.tv_sec = (time_t)left, .tv_nsec = (long)((left - (double)(time_t)left) * 1e9)};
    if (ppoll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, &wait, NULL) <= 0) continue;
    ssize_t got = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (got < 12) continue;
    size_t id = (size_t)(bytes[0] << 8 | bytes[1]);
    if (id >= sent || asked[id] == 0) continue;
    if (bytes[3] & 15 || !(bytes[6] | bytes[7])) empty++;
    else micros[answered++] = (float)((now() - asked[id]) * 1e6);
    asked[id] = 0;
  }
  qsort(micros, answered, sizeof *micros, compare);
  double p50 = answered ? micros[(answered - 1) / 2] : 0, p99 = answered ? micros[(size_t)((double)(answered - 1) * 0.99)] : 0;
  printf("{\"answered\":%zu,\"failed\":%zu,\"p50Micros\":%.1f,\"p99Micros\":%.1f}\n", answered, sent - answered, p50, p99);
  return answered ? 0 : 1;
}

static int until(char **argv) {
  int fd = connected(argv);
  uint16_t id = 0;
  for (double end = now() + GIVE_UP_S; now() < end;) {
    uint8_t bytes[MAX_SIZE];
    size_t length = write_query(bytes, ++id, argv[2]);
    if (send(fd, bytes, length, 0) < 0 && errno != ECONNREFUSED) fail("send");
    ppoll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, &(struct timespec){.tv_nsec = 1000000}, NULL);
    while (recv(fd, bytes, sizeof bytes, MSG_DONTWAIT) >= 12) {
      if (bytes[3] & 15 || !(bytes[6] | bytes[7])) continue;
      puts("found");
      return 0;
    }
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
  }
  fprintf(stderr, "dnsload: nobody knows %s\n", argv[2]);
  return 1;
}

int main(int argc, char **argv) {
  if (argc == 4 && !strcmp(argv[1], "serve")) return serve(argv + 2);
  if (argc >= 7 && !strcmp(argv[1], "ask")) return ask(argc - 6, argv + 2);
  if (argc == 5 && !strcmp(argv[1], "until")) return until(argv + 2);
  fprintf(stderr, "usage: dnsload serve HOST PORT | ask HOST PORT PER_SECOND MILLISECONDS NAME.. | until HOST PORT NAME\n");
  return 2;
}
