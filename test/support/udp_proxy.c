/*
 * A UDP proxy that adds delay and loss between clients and one target, as its own process.
 *
 *   client a ─┐                       ┌─ socket a ─┐
 *   client b ─┼─> listening socket ─> queue ─> socket b ─┼─> target      (and the same way back)
 *
 * Every client has its own upstream socket, so that the target sees distinct peers. Both directions have the same
 * delay, hence one queue ordered by arrival is also ordered by departure: a ring of bytes. Datagrams of one flow are
 * moved in batches (UDP_GRO on receipt, UDP_SEGMENT on departure), which makes a batch cost what one datagram costs;
 * loss still picks single datagrams. Bandwidth is not limited. A full queue drops what arrives (tail drop, counted).
 *
 * Prints "listening PORT" when ready, and one JSON line of counters when told to stop (SIGTERM, SIGINT) or orphaned.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

enum {
  MAX_CLIENTS = 4096,           /* further clients are ignored and counted */
  CLIENT_SLOTS = 4 * MAX_CLIENTS,
  MAX_BATCH = 65535,            /* bytes one receipt may bring */
  MAX_SEGMENTS = 64,            /* the kernel's bound on datagrams in one UDP_SEGMENT send */
  SOCKET_BUFFER = 16 << 20,
  RECEIPTS_AT_END = 100000,     /* so that the counters cover what had already arrived */
  RECEIPTS_PER_WAKE = 32,       /* so that one busy socket cannot starve departures */
};

struct client {
  struct sockaddr_storage address;
  socklen_t length;
  int socket;
};

/* One batch in the ring, followed by its bytes. `length` 0 marks the unused end of the arena. */
struct batch {
  uint64_t due;
  uint32_t length;
  uint16_t segment;
  uint16_t client;
  uint32_t to_target;
  uint32_t reserved;
};

struct counters {
  uint64_t forwarded, lost, queue_dropped, send_dropped, client_dropped, bytes;
  uint64_t departures, late_total_ns, late_max_ns, queue_peak;
};

static struct client clients[MAX_CLIENTS];
static uint16_t client_slots[CLIENT_SLOTS]; /* index + 1; 0 = free */
static unsigned client_count;
static struct sockaddr_storage target;
static socklen_t target_length;
static int listener, poller;

static unsigned char *arena;
static size_t arena_size, arena_head, arena_tail, arena_used;

static uint64_t delay_ns, random_state;
static double loss;
static struct counters counters;
static volatile sig_atomic_t stopping;

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* splitmix64: the same seed gives the same losses for the same sequence of datagrams. */
static double next_random(void) {
  uint64_t z = (random_state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return (double)((z ^ (z >> 31)) >> 11) * 0x1.0p-53;
}

static void fail(const char *what) {
  fprintf(stderr, "udp_proxy: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void on_signal(int number) {
  (void)number;
  stopping = 1;
}

static socklen_t resolve(const char *host, const char *port, struct sockaddr_storage *out) {
  struct addrinfo hints = {.ai_socktype = SOCK_DGRAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV}, *found;
  int problem = getaddrinfo(host, port, &hints, &found);
  if (problem) {
    fprintf(stderr, "udp_proxy: %s %s: %s\n", host, port, gai_strerror(problem));
    exit(2);
  }
  memcpy(out, found->ai_addr, found->ai_addrlen);
  socklen_t length = found->ai_addrlen;
  freeaddrinfo(found);
  return length;
}

static int open_socket(int family) {
  int fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  int one = 1, size = SOCKET_BUFFER;
  setsockopt(fd, IPPROTO_UDP, UDP_GRO, &one, sizeof one);
  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size)) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
  if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size)) setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
  return fd;
}

static void watch(int fd, uint32_t key) {
  struct epoll_event event = {.events = EPOLLIN, .data.u32 = key};
  if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event)) fail("epoll_ctl");
}

/* The client of an address, made on first sight; NULL when the table is full. */
static struct client *find_client(const struct sockaddr_storage *address, socklen_t length) {
  const unsigned char *bytes = (const unsigned char *)address;
  uint32_t hash = 2166136261u;
  for (socklen_t i = 0; i < length; i++) hash = (hash ^ bytes[i]) * 16777619u;
  uint32_t slot = hash % CLIENT_SLOTS;
  while (client_slots[slot]) {
    struct client *known = &clients[client_slots[slot] - 1];
    if (known->length == length && !memcmp(&known->address, address, length)) return known;
    slot = (slot + 1) % CLIENT_SLOTS;
  }
  if (client_count == MAX_CLIENTS) return NULL;
  int fd = open_socket(target.ss_family);
  if (fd < 0 || connect(fd, (struct sockaddr *)&target, target_length)) {
    if (fd >= 0) close(fd);
    return NULL;
  }
  struct client *made = &clients[client_count];
  memcpy(&made->address, address, length);
  made->length = length;
  made->socket = fd;
  client_slots[slot] = (uint16_t)(++client_count);
  watch(fd, client_count - 1);
  return made;
}

/* Room for one more batch of up to MAX_BATCH bytes at the tail, or NULL when the queue is full. */
static struct batch *reserve(void) {
  size_t need = sizeof(struct batch) + MAX_BATCH + 8;
  if (arena_used && arena_tail <= arena_head) return arena_head - arena_tail > need ? (struct batch *)(arena + arena_tail) : NULL;
  if (arena_size - arena_tail > need) return (struct batch *)(arena + arena_tail);
  if (arena_head <= need) return NULL;
  if (!arena_used) arena_head = 0;
  else if (arena_size - arena_tail >= sizeof(struct batch)) ((struct batch *)(arena + arena_tail))->length = 0;
  arena_tail = 0;
  return (struct batch *)arena;
}

static size_t footprint(const struct batch *b) { return (sizeof *b + b->length + 7) & ~(size_t)7; }

static void commit(struct batch *b) {
  size_t size = footprint(b);
  arena_tail += size;
  arena_used += size;
  if (arena_used > counters.queue_peak) counters.queue_peak = arena_used;
}

static struct batch *first(void) {
  if (!arena_used) return NULL;
  if (arena_head + sizeof(struct batch) > arena_size || !((struct batch *)(arena + arena_head))->length) arena_head = 0;
  return (struct batch *)(arena + arena_head);
}

static void drop_first(const struct batch *b) {
  size_t size = footprint(b);
  arena_head += size;
  arena_used -= size;
}

/* Removes the datagrams that chance takes from a batch; returns the bytes left. */
static uint32_t apply_loss(unsigned char *bytes, uint32_t length, uint16_t segment) {
  uint32_t kept = 0;
  for (uint32_t at = 0; at < length; at += segment) {
    uint32_t size = length - at < segment ? length - at : segment;
    if (next_random() < loss) {
      counters.lost++;
      continue;
    }
    if (kept != at) memmove(bytes + kept, bytes + at, size);
    kept += size;
  }
  return kept;
}

/* Takes one batch from a socket into the queue; 0 when nothing was there. */
static int receive(int fd, uint32_t key) {
  static unsigned char scratch[MAX_BATCH];
  struct batch *b = reserve();
  struct sockaddr_storage from = {0};
  char control[CMSG_SPACE(sizeof(int))];
  struct iovec part = {.iov_base = b ? (unsigned char *)(b + 1) : scratch, .iov_len = MAX_BATCH};
  struct msghdr message = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &part, .msg_iovlen = 1,
                           .msg_control = control, .msg_controllen = sizeof control};
  ssize_t got = recvmsg(fd, &message, 0);
  if (got < 0) return errno == ECONNREFUSED || errno == EINTR;
  if (got == 0) return 1;
  uint32_t length = (uint32_t)got, segment = length;
  for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
    int value;
    if (c->cmsg_level != IPPROTO_UDP || c->cmsg_type != UDP_GRO) continue;
    memcpy(&value, CMSG_DATA(c), sizeof value);
    if (value > 0) segment = (uint32_t)value;
  }
  uint32_t datagrams = (length + segment - 1) / segment;
  uint32_t index = key;
  if (key == UINT32_MAX) {
    struct client *client = find_client(&from, message.msg_namelen);
    if (!client) {
      counters.client_dropped += datagrams;
      return 1;
    }
    index = (uint32_t)(client - clients);
  }
  if (!b) {
    counters.queue_dropped += datagrams;
    return 1;
  }
  if (loss > 0) length = apply_loss((unsigned char *)(b + 1), length, (uint16_t)segment);
  if (!length) return 1;
  b->due = now_ns() + delay_ns;
  b->length = length;
  b->segment = (uint16_t)segment;
  b->client = (uint16_t)index;
  b->to_target = key == UINT32_MAX;
  commit(b);
  return 1;
}

static ssize_t transmit(const struct batch *b, unsigned char *bytes, uint32_t length) {
  struct client *client = &clients[b->client];
  char control[CMSG_SPACE(sizeof(uint16_t))] = {0};
  struct iovec part = {.iov_base = bytes, .iov_len = length};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  if (!b->to_target) {
    message.msg_name = &client->address;
    message.msg_namelen = client->length;
  }
  if (length > b->segment) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    struct cmsghdr *c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = IPPROTO_UDP;
    c->cmsg_type = UDP_SEGMENT;
    c->cmsg_len = CMSG_LEN(sizeof(uint16_t));
    memcpy(CMSG_DATA(c), &b->segment, sizeof(uint16_t));
  }
  return sendmsg(b->to_target ? client->socket : listener, &message, 0);
}

static void depart(const struct batch *b) {
  unsigned char *bytes = (unsigned char *)(b + 1);
  uint32_t step = (uint32_t)b->segment * MAX_SEGMENTS;
  for (uint32_t at = 0; at < b->length; at += step) {
    uint32_t length = b->length - at < step ? b->length - at : step;
    uint32_t datagrams = (length + b->segment - 1u) / b->segment;
    ssize_t sent = transmit(b, bytes + at, length);
    /* An earlier ICMP error is reported by the next send, which then did not happen. */
    if (sent < 0 && errno == ECONNREFUSED) sent = transmit(b, bytes + at, length);
    if (sent < 0) {
      counters.send_dropped += datagrams;
    } else {
      counters.forwarded += datagrams;
      counters.bytes += length;
    }
  }
}

static void depart_due(void) {
  struct batch *b;
  while ((b = first())) {
    uint64_t now = now_ns();
    if (b->due > now) return;
    uint64_t late = now - b->due;
    counters.departures++;
    counters.late_total_ns += late;
    if (late > counters.late_max_ns) counters.late_max_ns = late;
    depart(b);
    drop_first(b);
  }
}

static void report(void) {
  printf("{\"forwarded\":%llu,\"bytes\":%llu,\"lost\":%llu,\"queueDropped\":%llu,\"sendDropped\":%llu,"
         "\"clientDropped\":%llu,\"clients\":%u,\"queuePeakBytes\":%llu,\"meanLateMicros\":%.1f,\"maxLateMicros\":%.1f}\n",
         (unsigned long long)counters.forwarded, (unsigned long long)counters.bytes, (unsigned long long)counters.lost,
         (unsigned long long)counters.queue_dropped, (unsigned long long)counters.send_dropped,
         (unsigned long long)counters.client_dropped, client_count, (unsigned long long)counters.queue_peak,
         counters.departures ? (double)counters.late_total_ns / (double)counters.departures / 1e3 : 0.0,
         (double)counters.late_max_ns / 1e3);
  fflush(stdout);
}

static void run(void) {
  struct epoll_event events[64];
  pid_t parent = getppid();
  while (!stopping && getppid() == parent) {
    struct timespec wait = {.tv_sec = 1};
    struct batch *b = first();
    if (b) {
      uint64_t now = now_ns(), left = b->due > now ? b->due - now : 0;
      if (left < 1000000000u) wait = (struct timespec){.tv_nsec = (long)left};
    }
    int ready = epoll_pwait2(poller, events, 64, &wait, NULL);
    depart_due();
    for (int i = 0; i < ready; i++) {
      uint32_t key = events[i].data.u32;
      int fd = key == UINT32_MAX ? listener : clients[key].socket;
      for (int n = 0; n < RECEIPTS_PER_WAKE && receive(fd, key); n++) depart_due();
    }
    depart_due();
  }
  for (int n = 0; n < RECEIPTS_AT_END && receive(listener, UINT32_MAX); n++) depart_due();
  depart_due();
}

/* udp_proxy LISTEN_HOST LISTEN_PORT TARGET_HOST TARGET_PORT DELAY_MICROS LOSS SEED QUEUE_BYTES */
int main(int argc, char **argv) {
  if (argc != 9) {
    fprintf(stderr, "usage: udp_proxy LISTEN_HOST PORT TARGET_HOST PORT DELAY_MICROS LOSS SEED QUEUE_BYTES\n");
    return 2;
  }
  struct sockaddr_storage local = {0};
  socklen_t local_length = resolve(argv[1], argv[2], &local);
  target_length = resolve(argv[3], argv[4], &target);
  delay_ns = strtoull(argv[5], NULL, 10) * 1000u;
  loss = strtod(argv[6], NULL);
  random_state = strtoull(argv[7], NULL, 10);
  arena_size = strtoull(argv[8], NULL, 10) & ~(uint64_t)7;
  if (arena_size < 4u * MAX_BATCH || !(arena = malloc(arena_size))) fail("queue too small or no memory");

  struct sigaction action = {.sa_handler = on_signal};
  sigaction(SIGTERM, &action, NULL);
  sigaction(SIGINT, &action, NULL);
  prctl(PR_SET_TIMERSLACK, 1000ul); /* 1 us instead of 50 us */
  poller = epoll_create1(EPOLL_CLOEXEC);
  listener = open_socket(local.ss_family);
  if (poller < 0 || listener < 0) fail("socket");
  if (bind(listener, (struct sockaddr *)&local, local_length)) fail("bind");
  if (getsockname(listener, (struct sockaddr *)&local, &local_length)) fail("getsockname");
  watch(listener, UINT32_MAX);
  printf("listening %u\n", ntohs(((struct sockaddr_in *)&local)->sin_port));
  fflush(stdout);
  run();
  report();
  return 0;
}
