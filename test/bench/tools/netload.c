/*
 * A light load source and echo server, so that measuring costs next to nothing on the cores being measured.
 *
 *   netload serve HOST PORT                            echoes every byte; prints "listening PORT"
 *   netload latency HOST PORT SIZE SECONDS             one connection, one request of SIZE bytes at a time
 *   netload connects HOST PORT CONCURRENCY SECONDS     connect, one byte there and back, close; CONCURRENCY at a time
 *   netload http HOST PORT COUNT                       connect, GET /, first byte of the answer, close; one at a time
 *
 * Clients print one JSON line and exit with 0; what fails is counted, and a client that got nothing done exits with 1.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
  MAX_SAMPLES = 1 << 20, /* further ones are counted but not kept */
  WARM_UP = 50,          /* requests before the first sample */
  MAX_SIZE = 65536,
  MAX_CONCURRENCY = 1024,
  FLOW_SECONDS = 10,     /* a flow that takes longer counts as failed */
};

static float samples[MAX_SAMPLES];
static size_t sample_count;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void fail(const char *what) {
  fprintf(stderr, "netload: %s: %s\n", what, strerror(errno));
  exit(1);
}

static struct sockaddr_in address_of(const char *host, const char *port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
  if (inet_pton(AF_INET, host, &address.sin_addr) != 1) {
    fprintf(stderr, "netload: %s is not an IPv4 address\n", host);
    exit(2);
  }
  return address;
}

static void no_delay(int fd) {
  int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static void sample(double seconds) {
  if (sample_count < MAX_SAMPLES) samples[sample_count++] = (float)(seconds * 1e6);
}

static int compare(const void *a, const void *b) {
  float x = *(const float *)a, y = *(const float *)b;
  return (x > y) - (x < y);
}

static double percentile(double share) {
  if (!sample_count) return 0;
  return samples[(size_t)((double)(sample_count - 1) * share)];
}

static void report(const char *unit, uint64_t done, uint64_t failed, double seconds) {
  qsort(samples, sample_count, sizeof *samples, compare);
  printf("{\"%s\":%llu,\"failed\":%llu,\"seconds\":%.3f,\"perSecond\":%.1f,\"p50Micros\":%.1f,\"p90Micros\":%.1f,"
         "\"p99Micros\":%.1f,\"maxMicros\":%.1f}\n",
         unit, (unsigned long long)done, (unsigned long long)failed, seconds, (double)done / seconds, percentile(0.5),
         percentile(0.9), percentile(0.99), percentile(1));
  exit(done ? 0 : 1);
}

/* Echo server. A connection whose echo cannot be written at once waits for room before reading on. */
static void echo(int fd) {
  static char bytes[MAX_SIZE];
  ssize_t got = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  for (ssize_t sent = 0; got > 0 && sent < got;) {
    ssize_t n = send(fd, bytes + sent, (size_t)(got - sent), MSG_NOSIGNAL);
    if (n < 0) got = -1;
    else sent += n;
  }
  if (got <= 0) close(fd);
}

static int serve(char **argv) {
  struct sockaddr_in address = address_of(argv[0], argv[1]);
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) fail("listen");
  int poller = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[256];
  epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
  printf("listening %u\n", ntohs(address.sin_port));
  fflush(stdout);
  pid_t parent = getppid();
  while (getppid() == parent) {
    int ready = epoll_wait(poller, events, 256, 1000);
    for (int i = 0; i < ready; i++) {
      if (events[i].data.fd != listener) {
        echo(events[i].data.fd);
        continue;
      }
      int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
      if (fd < 0) continue;
      no_delay(fd);
      event = (struct epoll_event){.events = EPOLLIN, .data.fd = fd};
      epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
    }
  }
  return 0;
}

static int latency(char **argv) {
  static char bytes[MAX_SIZE];
  struct sockaddr_in address = address_of(argv[0], argv[1]);
  size_t size = (size_t)atoi(argv[2]);
  double seconds = atof(argv[3]);
  if (size < 1 || size > MAX_SIZE) fail("size");
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(fd, (struct sockaddr *)&address, sizeof address)) fail("connect");
  no_delay(fd);
  uint64_t done = 0;
  double started = now(), until = started + seconds;
  for (double begin = started; begin < until || done <= WARM_UP; done++) {
    if (send(fd, bytes, size, MSG_NOSIGNAL) != (ssize_t)size) fail("send");
    for (size_t got = 0; got < size;) {
      ssize_t n = recv(fd, bytes, size - got, 0);
      if (n <= 0) fail(n ? "recv" : "recv: the peer closed");
      got += (size_t)n;
    }
    double end = now();
    if (done >= WARM_UP) sample(end - begin);
    begin = end;
  }
  report("requests", done, 0, now() - started);
  return 0;
}

/* New flows: each slot walks through connecting, waiting for its byte, and starting again. */
struct slot {
  int fd;
  int sent;
  double begun;
};

static void begin(struct slot *slot, const struct sockaddr_in *address, int poller) {
  slot->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  slot->sent = 0;
  slot->begun = now();
  if (slot->fd < 0) fail("socket");
  no_delay(slot->fd);
  if (connect(slot->fd, (const struct sockaddr *)address, sizeof *address) && errno != EINPROGRESS) fail("connect");
  struct epoll_event event = {.events = EPOLLOUT, .data.ptr = slot};
  epoll_ctl(poller, EPOLL_CTL_ADD, slot->fd, &event);
}

/* Moves one flow on: 1 = done, -1 = failed, 0 = still under way. */
static int advance(struct slot *slot, int poller) {
  char byte = 'x';
  if (!slot->sent) {
    int problem = 0;
    socklen_t length = sizeof problem;
    getsockopt(slot->fd, SOL_SOCKET, SO_ERROR, &problem, &length);
    if (problem || send(slot->fd, &byte, 1, MSG_NOSIGNAL) != 1) return -1;
    slot->sent = 1;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = slot};
    epoll_ctl(poller, EPOLL_CTL_MOD, slot->fd, &event);
    return 0;
  }
  ssize_t got = recv(slot->fd, &byte, 1, 0);
  if (got < 0 && errno == EAGAIN) return 0;
  return got == 1 ? 1 : -1;
}

static int connects(char **argv) {
  static struct slot slots[MAX_CONCURRENCY];
  struct sockaddr_in address = address_of(argv[0], argv[1]);
  int concurrency = atoi(argv[2]);
  double seconds = atof(argv[3]);
  if (concurrency < 1 || concurrency > MAX_CONCURRENCY) fail("concurrency");
  int poller = epoll_create1(0);
  uint64_t done = 0, failed = 0;
  double started = now(), until = started + seconds, time = started;
  for (int i = 0; i < concurrency; i++) begin(&slots[i], &address, poller);
  while ((time = now()) < until) {
    struct epoll_event events[64];
    int ready = epoll_wait(poller, events, 64, 100);
    for (int i = 0; i < ready; i++) {
      struct slot *slot = events[i].data.ptr;
      int outcome = advance(slot, poller);
      if (!outcome) continue;
      if (outcome > 0) {
        done++;
        sample(now() - slot->begun);
      } else {
        failed++;
      }
      close(slot->fd);
      begin(slot, &address, poller);
    }
    for (int i = 0; ready == 0 && i < concurrency; i++) {
      if (time - slots[i].begun < FLOW_SECONDS) continue;
      failed++;
      close(slots[i].fd);
      begin(&slots[i], &address, poller);
    }
  }
  report("flows", done, failed, now() - started);
  return 0;
}

static int http(char **argv) {
  static const char request[] = "GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n";
  struct sockaddr_in address = address_of(argv[0], argv[1]);
  int count = atoi(argv[2]);
  uint64_t done = 0, failed = 0;
  double started = now();
  for (int i = 0; i < count; i++) {
    char bytes[512];
    double begin = now();
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0) fail("socket");
    no_delay(fd);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0 &&
        send(fd, request, sizeof request - 1, MSG_NOSIGNAL) > 0 && recv(fd, bytes, sizeof bytes, 0) > 0) {
      sample(now() - begin);
      done++;
    } else {
      failed++;
    }
    close(fd);
  }
  report("requests", done, failed, now() - started);
  return 0;
}

int main(int argc, char **argv) {
  signal(SIGPIPE, SIG_IGN);
  if (argc == 4 && !strcmp(argv[1], "serve")) return serve(argv + 2);
  if (argc == 6 && !strcmp(argv[1], "latency")) return latency(argv + 2);
  if (argc == 6 && !strcmp(argv[1], "connects")) return connects(argv + 2);
  if (argc == 5 && !strcmp(argv[1], "http")) return http(argv + 2);
  fprintf(stderr, "usage: netload serve HOST PORT | latency HOST PORT SIZE SECONDS | connects HOST PORT CONCURRENCY SECONDS | "
                  "http HOST PORT COUNT\n");
  return 2;
}
