/*
 * What Ginnel asks of a Linux TUN interface and the runtime has no words for: open it, read and write many packets
 * per call, wait for packets. Whoever builds it uses the flags of the next line:
 *
 * build: -std=c17 -O2 -Wall -Wextra -Werror -Wconversion -fPIC -shared -fvisibility=hidden -fstack-protector-strong -Wl,-z,relro,-z,now -s
 *
 * The kernel hands over TCP and UDP in frames of up to 64 KB (IFF_VNET_HDR with segmentation offload), each behind
 * a virtio_net_hdr; reading cuts them to packets with complete checksums. Writing joins packets of one flow to such
 * frames again. Nothing is allocated here and nothing outlives a call but what the caller's buffers hold. Every
 * length, the kernel's as well as the caller's, is checked against its buffer before it is used.
 *
 * Functions return a count or a descriptor, or a negative errno. They keep no state, so threads may call them at
 * once with different buffers.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* Newer than the headers of Debian 12. */
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif
#ifndef VIRTIO_NET_HDR_GSO_UDP_L4
#define VIRTIO_NET_HDR_GSO_UDP_L4 5
#endif

#define API __attribute__((visibility("default")))

enum {
  VNET = sizeof(struct virtio_net_hdr),
  MAX_PACKET = 65535,
  TCP = 6,
  UDP = 17,
  TCP_FIN = 0x01,
  TCP_PSH = 0x08,
  TCP_ACK = 0x10,
  TCP_CWR = 0x80,
};

_Static_assert(VNET == 10, "the kernel's default vnet header has 10 bytes");

/* ---- Numbers and checksums ---------------------------------------------------------------------------------- */

static uint16_t get16(const uint8_t *at) { return (uint16_t)(at[0] << 8 | at[1]); }

static uint32_t get32(const uint8_t *at) { return (uint32_t)get16(at) << 16 | get16(at + 2); }

static void put16(uint8_t *at, uint32_t value) {
  at[0] = (uint8_t)(value >> 8);
  at[1] = (uint8_t)value;
}

static void put32(uint8_t *at, uint32_t value) {
  put16(at, value >> 16);
  put16(at + 2, value);
}

/*
 * The internet checksum (RFC 1071) is summed in the machine's own byte order, 32 bits at a time, and folded at the
 * end: `sum` can take 2^32 such words. Pieces must start at even offsets of what is summed.
 */
static uint64_t add_tail(uint64_t sum, const uint8_t *at, size_t size) {
  uint32_t word = 0;
  uint16_t half = 0, last = 0;
  if (size & 4) memcpy(&word, at, 4), at += 4;
  if (size & 2) memcpy(&half, at, 2), at += 2;
  if (size & 1) memcpy(&last, at, 1);
  return sum + word + half + last;
}

static uint64_t add(uint64_t sum, const uint8_t *at, size_t size) {
  uint64_t low = 0, high = 0;
  for (; size >= 8; at += 8, size -= 8) {
    uint64_t words;
    memcpy(&words, at, 8);
    low += words & 0xffffffff;
    high += words >> 32;
  }
  return add_tail(sum + low + high, at, size);
}

static uint64_t copy_and_add(uint64_t sum, uint8_t *to, const uint8_t *from, size_t size) {
  uint64_t low = 0, high = 0;
  for (; size >= 8; from += 8, to += 8, size -= 8) {
    uint64_t words;
    memcpy(&words, from, 8);
    memcpy(to, &words, 8);
    low += words & 0xffffffff;
    high += words >> 32;
  }
  memcpy(to, from, size);
  return add_tail(sum + low + high, from, size);
}

static uint16_t fold(uint64_t sum) {
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return (uint16_t)sum;
}

/* Writes the complement of `sum`; zero means "none" to UDP, and its other form is right for every protocol. */
static void put_checksum(uint8_t *at, uint64_t sum) {
  uint16_t value = (uint16_t)~fold(sum);
  if (value == 0) value = 0xffff;
  memcpy(at, &value, 2);
}

static void put_ipv4_checksum(uint8_t *packet, uint32_t header) {
  put16(packet + 10, 0);
  uint16_t value = (uint16_t)~fold(add(0, packet, header));
  memcpy(packet + 10, &value, 2);
}

/* ---- Reading: frames to packets ------------------------------------------------------------------------------ */

/* The caller's packets: packet i lies from starts[i] to ends[i], `headroom` bytes are free in front of each. */
struct batch {
  uint8_t *bytes;
  uint32_t size, *starts, *ends, max, headroom, count;
};

static uint8_t *reserve(struct batch *batch, uint32_t length) {
  uint64_t start = (batch->count == 0 ? 0 : (uint64_t)batch->ends[batch->count - 1]) + batch->headroom;
  if (batch->count >= batch->max || start + length > batch->size) return NULL;
  batch->starts[batch->count] = (uint32_t)start;
  batch->ends[batch->count] = (uint32_t)start + length;
  batch->count++;
  return batch->bytes + start;
}

/* What `next` becomes when nothing of a frame is left. */
static const uint32_t DONE = UINT32_MAX;

/* A frame that is one packet: completes its checksum, if that was left to us. */
static int cut_whole(const struct virtio_net_hdr *vnet, const uint8_t *packet, uint32_t length, struct batch *out) {
  uint32_t start = vnet->csum_start, field = start + vnet->csum_offset;
  int partial = (vnet->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) != 0;
  if (partial && field + 2 > length) return -EINVAL;
  uint8_t *to = reserve(out, length);
  if (to == NULL) return 0;
  if (!partial) {
    memcpy(to, packet, length);
    return 1;
  }
  memcpy(to, packet, start);
  put_checksum(to + field, copy_and_add(0, to + start, packet + start, length - start));
  return 1;
}

/*
 * Cuts a frame into `out`, from byte `*next` of its payload on. Returns 0 and moves `*next`, to DONE when all of it
 * was cut; -EINVAL for a frame that makes no sense, which is then done too.
 */
static int cut(const uint8_t *frame, uint32_t size, uint32_t *next, struct batch *out) {
  struct virtio_net_hdr vnet;
  uint32_t from = *next;
  *next = DONE;
  if (size <= VNET || size > VNET + MAX_PACKET) return -EINVAL;
  memcpy(&vnet, frame, VNET);
  const uint8_t *packet = frame + VNET;
  uint32_t length = size - VNET;
  if (vnet.gso_type == VIRTIO_NET_HDR_GSO_NONE) {
    int whole = cut_whole(&vnet, packet, length, out);
    if (whole == 0) *next = from;
    return whole < 0 ? whole : 0;
  }

  int version = packet[0] >> 4, type = vnet.gso_type & ~VIRTIO_NET_HDR_GSO_ECN, is_udp = 0;
  switch (type) {
    case VIRTIO_NET_HDR_GSO_TCPV4: if (version != 4) return -EINVAL; break;
    case VIRTIO_NET_HDR_GSO_TCPV6: if (version != 6) return -EINVAL; break;
    case VIRTIO_NET_HDR_GSO_UDP_L4: if (version != 4 && version != 6) return -EINVAL; is_udp = 1; break;
    default: return -EINVAL;
  }
  /* `l4` is where TCP or UDP begins, `head` where the payload does. hdr_len is only the kernel's guess of it. */
  uint32_t l4 = vnet.csum_start, part = vnet.gso_size;
  if ((vnet.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) == 0 || part == 0) return -EINVAL;
  if (version == 4 ? l4 < 20 || l4 != (packet[0] & 15u) * 4 : l4 < 40) return -EINVAL;
  if (l4 + (is_udp ? 8u : 20u) > length) return -EINVAL;
  uint32_t head = l4 + (is_udp ? 8u : (packet[l4 + 12] >> 4) * 4u), field = l4 + (is_udp ? 6u : 16u);
  if (head < l4 + (is_udp ? 8u : 20u) || head > length) return -EINVAL;
  uint32_t payload = length - head;
  if (from > payload) return -EINVAL;

  /* The kernel left the sum of the pseudo header in the checksum field; only the length in it changes. */
  uint16_t pseudo;
  memcpy(&pseudo, packet + field, 2);
  uint64_t base = (uint64_t)pseudo + (uint16_t)~htons((uint16_t)(length - l4));
  do {
    uint32_t left = payload - from, take = left < part ? left : part;
    uint8_t *to = reserve(out, head + take);
    if (to == NULL) {
      *next = from;
      return 0;
    }
    memcpy(to, packet, head);
    if (version == 4) {
      put16(to + 2, head + take);
      put16(to + 4, get16(packet + 4) + from / part);
      put_ipv4_checksum(to, l4);
    } else {
      put16(to + 4, head + take - 40);
    }
    if (is_udp) {
      put16(to + l4 + 4, 8 + take);
    } else {
      put32(to + l4 + 4, get32(packet + l4 + 4) + from);
      if (take < left) to[l4 + 13] &= (uint8_t)~(TCP_FIN | TCP_PSH);
      if (from > 0) to[l4 + 13] &= (uint8_t)~TCP_CWR;
    }
    put16(to + field, 0);
    uint64_t sum = add(base + htons((uint16_t)(head - l4 + take)), to + l4, head - l4);
    put_checksum(to + field, copy_and_add(sum, to + head, packet + head + from, take));
    from += take;
  } while (from < payload);
  return 0;
}

/* ---- Writing: packets to frames ------------------------------------------------------------------------------ */

enum { MAX_GROUPS = 16, MAX_MEMBERS = 64 };

/* A packet that may be joined with others: IPv4 without options or IPv6 without extensions, TCP or UDP, whole. */
struct shape {
  uint32_t version, protocol, l4, head, payload;
};

/* Packets of one flow that follow one another; all but the last have the payload size of the first. */
struct group {
  struct shape shape;
  uint8_t *first;
  uint32_t bytes, count, verified, members[MAX_MEMBERS];
};

struct writer {
  const struct batch *batch;
  int udp; /* whether the kernel takes joined UDP */
  uint32_t open, victim, refused;
  struct group groups[MAX_GROUPS];
  /* Takes one frame in pieces; returns 0 when it was refused. */
  int (*put)(void *context, const struct iovec *pieces, int count);
  void *context;
};

static int shape_of(const uint8_t *packet, uint32_t length, struct shape *shape) {
  if (length >= 20 && packet[0] == 0x45) {
    if (get16(packet + 2) != length || (get16(packet + 6) & 0x3fff) != 0) return 0;
    *shape = (struct shape){4, packet[9], 20, 0, 0};
  } else if (length >= 40 && packet[0] >> 4 == 6) {
    if (get16(packet + 4) != length - 40) return 0;
    *shape = (struct shape){6, packet[6], 40, 0, 0};
  } else {
    return 0;
  }
  const uint8_t *inner = packet + shape->l4;
  uint32_t left = length - shape->l4, own = 8;
  if (shape->protocol == TCP) {
    if (left < 20) return 0;
    own = (inner[12] >> 4) * 4u;
    if (own < 20 || own > left) return 0;
  } else if (shape->protocol != UDP || left < 8 || get16(inner + 4) != left) {
    return 0;
  }
  shape->head = shape->l4 + own;
  shape->payload = left - own;
  return 1;
}

/* The pseudo header's sum for `length` bytes of TCP or UDP. */
static uint64_t pseudo_header(const struct shape *shape, const uint8_t *packet, uint32_t length) {
  uint64_t sum = (uint64_t)htons((uint16_t)length) + htons((uint16_t)shape->protocol);
  return shape->version == 4 ? add(sum, packet + 12, 8) : add(sum, packet + 8, 32);
}

/* Whether what the sender summed arrived: a joined frame tells the kernel that it did. */
static int is_intact(const struct shape *shape, const uint8_t *packet) {
  uint32_t length = shape->head - shape->l4 + shape->payload;
  if (shape->version == 4 && fold(add(0, packet, 20)) != 0xffff) return 0;
  return fold(add(pseudo_header(shape, packet, length), packet + shape->l4, length)) == 0xffff;
}

static int is_same_flow(const struct shape *a, const uint8_t *first, const struct shape *b, const uint8_t *packet) {
  if (a->version != b->version || a->protocol != b->protocol) return 0;
  if (memcmp(first + a->l4, packet + a->l4, 4) != 0) return 0;
  return a->version == 4 ? memcmp(first + 12, packet + 12, 8) == 0 : memcmp(first + 8, packet + 8, 32) == 0;
}

/* Whether a packet may be the first of several: TCP data with nothing but ACK, UDP data with a checksum. */
static int can_lead(const struct writer *writer, const struct shape *shape, const uint8_t *packet) {
  if (shape->payload == 0) return 0;
  if (shape->protocol == UDP) return writer->udp && get16(packet + shape->l4 + 6) != 0;
  return packet[shape->l4 + 13] == TCP_ACK;
}

/* Whether a packet of the same flow continues the group, so that cutting the joined frame gives it back. */
static int can_follow(const struct group *group, const struct shape *shape, const uint8_t *packet) {
  const struct shape *lead = &group->shape;
  const uint8_t *first = group->first, *a = first + lead->l4, *b = packet + lead->l4;
  if (group->count == MAX_MEMBERS || shape->head != lead->head || shape->payload == 0) return 0;
  if (shape->payload > lead->payload || group->bytes != group->count * lead->payload) return 0;
  if (lead->head + group->bytes + shape->payload > MAX_PACKET) return 0;
  if (lead->version == 4) {
    /* The same service, fragment bits and TTL; identifiers that count up unless nobody may ever need them. */
    int dont_fragment = (first[6] & 0x40) != 0;
    if (first[1] != packet[1] || first[6] != packet[6] || first[8] != packet[8]) return 0;
    if (!dont_fragment && (uint16_t)(get16(first + 4) + group->count) != get16(packet + 4)) return 0;
  } else if (memcmp(first, packet, 4) != 0 || first[7] != packet[7]) {
    return 0;
  }
  if (lead->protocol == UDP) return get16(b + 6) != 0;
  if (get32(a + 4) + group->bytes != get32(b + 4)) return 0;
  /* The same acknowledgement, header length, window, urgent pointer and options. PSH may end the group, and did if set. */
  if (memcmp(a + 8, b + 8, 5) != 0 || (b[13] & ~TCP_PSH) != TCP_ACK || (a[13] & TCP_PSH) != 0) return 0;
  return memcmp(a + 14, b + 14, 2) == 0 && memcmp(a + 18, b + 18, 2) == 0 &&
         memcmp(a + 20, b + 20, lead->head - lead->l4 - 20) == 0;
}

static void write_alone(struct writer *writer, uint8_t *packet, uint32_t length) {
  struct virtio_net_hdr vnet = {0};
  struct iovec pieces[] = {{&vnet, VNET}, {packet, length}};
  if (!writer->put(writer->context, pieces, 2)) writer->refused++;
}

/* Writes a group as one frame and empties it. Changes the headers of its first packet. */
static void flush(struct writer *writer, struct group *group) {
  const struct shape *shape = &group->shape;
  struct iovec pieces[1 + MAX_MEMBERS];
  uint8_t *first = group->first, *inner = first + shape->l4;
  uint32_t count = group->count, length = shape->head - shape->l4 + group->bytes;
  group->count = 0;
  writer->open--;
  if (count == 1) {
    write_alone(writer, first, shape->head + shape->payload);
    return;
  }
  struct virtio_net_hdr vnet = {
      .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
      .gso_type = shape->protocol == UDP  ? VIRTIO_NET_HDR_GSO_UDP_L4
                  : shape->version == 4 ? VIRTIO_NET_HDR_GSO_TCPV4
                                        : VIRTIO_NET_HDR_GSO_TCPV6,
      .hdr_len = (uint16_t)shape->head,
      .gso_size = (uint16_t)shape->payload,
      .csum_start = (uint16_t)shape->l4,
      .csum_offset = shape->protocol == UDP ? 6 : 16,
  };
  if (shape->version == 4) {
    put16(first + 2, shape->l4 + length);
    put_ipv4_checksum(first, 20);
  } else {
    put16(first + 4, length);
  }
  if (shape->protocol == UDP) put16(inner + 4, length);
  uint16_t partial = fold(pseudo_header(shape, first, length));
  memcpy(inner + vnet.csum_offset, &partial, 2);
  pieces[0] = (struct iovec){&vnet, VNET};
  pieces[1] = (struct iovec){first, shape->head + shape->payload};
  for (uint32_t i = 1; i < count; i++) {
    uint32_t member = group->members[i], start = writer->batch->starts[member] + shape->head;
    pieces[1 + i] = (struct iovec){writer->batch->bytes + start, writer->batch->ends[member] - start};
  }
  if (!writer->put(writer->context, pieces, (int)count + 1)) writer->refused += count;
}

static void flush_all(struct writer *writer) {
  for (uint32_t i = 0; i < MAX_GROUPS && writer->open > 0; i++)
    if (writer->groups[i].count > 0) flush(writer, &writer->groups[i]);
}

static void lead(struct writer *writer, const struct shape *shape, uint8_t *packet, uint32_t member) {
  struct group *group = NULL;
  for (uint32_t i = 0; i < MAX_GROUPS && group == NULL; i++)
    if (writer->groups[i].count == 0) group = &writer->groups[i];
  if (group == NULL) {
    group = &writer->groups[writer->victim++ % MAX_GROUPS];
    flush(writer, group);
  }
  group->shape = *shape;
  group->first = packet;
  group->bytes = shape->payload;
  group->count = 1;
  group->verified = 0;
  group->members[0] = member;
  writer->open++;
}

static int follow(struct group *group, const struct shape *shape, const uint8_t *packet, uint32_t member) {
  if (!can_follow(group, shape, packet) || !is_intact(shape, packet)) return 0;
  if (!group->verified && !is_intact(&group->shape, group->first)) return 0;
  group->verified = 1;
  group->members[group->count++] = member;
  group->bytes += shape->payload;
  if (shape->protocol == TCP) group->first[shape->l4 + 13] |= packet[shape->l4 + 13] & TCP_PSH;
  return 1;
}

/* Packets of one flow keep their order; those of different flows may change places. */
static void write_packet(struct writer *writer, uint32_t member) {
  uint8_t *packet = writer->batch->bytes + writer->batch->starts[member];
  uint32_t length = writer->batch->ends[member] - writer->batch->starts[member];
  struct shape shape;
  if (!shape_of(packet, length, &shape)) {
    flush_all(writer);
    write_alone(writer, packet, length);
    return;
  }
  for (uint32_t i = 0, seen = 0; i < MAX_GROUPS && seen < writer->open; i++) {
    struct group *group = &writer->groups[i];
    if (group->count == 0) continue;
    seen++;
    if (!is_same_flow(&group->shape, group->first, &shape, packet)) continue;
    if (follow(group, &shape, packet, member)) return;
    flush(writer, group);
    break;
  }
  if (can_lead(writer, &shape, packet)) lead(writer, &shape, packet, member);
  else write_alone(writer, packet, length);
}

/* Returns how many packets were refused: by `put`, or because they do not lie inside the batch. */
static int32_t write_batch(struct writer *writer) {
  const struct batch *batch = writer->batch;
  writer->open = writer->victim = writer->refused = 0;
  for (uint32_t i = 0; i < MAX_GROUPS; i++) writer->groups[i].count = 0;
  for (uint32_t i = 0; i < batch->count; i++) {
    uint32_t start = batch->starts[i], end = batch->ends[i];
    if (start >= end || end > batch->size || end - start > MAX_PACKET) writer->refused++;
    else write_packet(writer, i);
  }
  flush_all(writer);
  return (int32_t)writer->refused;
}

static int put_to_device(void *context, const struct iovec *pieces, int count) {
  ssize_t written;
  do written = writev(*(int *)context, pieces, count);
  while (written < 0 && errno == EINTR);
  return written >= 0;
}

static int put_to_memory(void *context, const struct iovec *pieces, int count) {
  struct batch *out = context;
  size_t length = 0;
  for (int i = 0; i < count; i++) length += pieces[i].iov_len;
  uint8_t *to = length > VNET + MAX_PACKET ? NULL : reserve(out, (uint32_t)length);
  for (int i = 0; to != NULL && i < count; i++) {
    memcpy(to, pieces[i].iov_base, pieces[i].iov_len);
    to += pieces[i].iov_len;
  }
  return to != NULL;
}

/* ---- What the runtime calls ---------------------------------------------------------------------------------- */

/* What tun_read keeps of a frame between calls, in memory of the caller; all zero at first. */
struct pending {
  uint32_t size, next;
  uint8_t frame[VNET + MAX_PACKET + 1];
};

API uint32_t tun_pending_size(void) { return sizeof(struct pending); }

/*
 * Makes CAP_NET_ADMIN effective where the file or the supervisor permits it, and hands it on to the programs that
 * this thread starts (`ip`, `nft`). Returns 1 when we have it, 0 when not.
 */
API int32_t tun_privilege(void) {
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[2] = {{0}};
  const uint32_t mask = 1u << CAP_NET_ADMIN;
  if (syscall(SYS_capget, &header, data) != 0 || (data[0].permitted & mask) == 0) return 0;
  data[0].effective |= mask;
  data[0].inheritable |= mask;
  if (syscall(SYS_capset, &header, data) == 0) prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_ADMIN, 0, 0);
  return 1;
}

/*
 * Opens interface `name`, making it if need be. `told` receives how far it came (0: /dev/net/tun, 1: the interface,
 * 2: done) and the offloads the kernel took. Returns a descriptor.
 */
API int32_t tun_open(const char *name, int32_t multi_queue, uint32_t told[2]) {
  static const unsigned int tcp = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
  static const unsigned int offers[] = {tcp | TUN_F_USO4 | TUN_F_USO6, tcp, TUN_F_CSUM, 0};
  struct ifreq request = {0};
  told[0] = told[1] = 0;
  if (strnlen(name, IFNAMSIZ) == IFNAMSIZ) return -ENAMETOOLONG;
  int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return -errno;
  told[0] = 1;
  strcpy(request.ifr_name, name);
  request.ifr_flags = (short)(IFF_TUN | IFF_NO_PI | IFF_VNET_HDR | (multi_queue ? IFF_MULTI_QUEUE : 0));
  int size = VNET, failed = ioctl(fd, TUNSETIFF, &request) != 0 || ioctl(fd, TUNSETVNETHDRSZ, &size) != 0;
  for (size_t i = 0; !failed; i++) {
    if (ioctl(fd, TUNSETOFFLOAD, (unsigned long)offers[i]) == 0) {
      told[0] = 2;
      told[1] = offers[i];
      return fd;
    }
    failed = offers[i] == 0;
  }
  int error = errno;
  close(fd);
  return -error;
}

/*
 * Reads until nothing waits or the batch is full. Returns the count of packets; an error only when there are none.
 */
API int32_t tun_read(int32_t fd, struct pending *pending, uint8_t *bytes, uint32_t size, uint32_t *starts,
                     uint32_t *ends, uint32_t max, uint32_t headroom) {
  struct batch batch = {bytes, size, starts, ends, max, headroom, 0};
  while (batch.count < max) {
    if (pending->size == 0) {
      ssize_t got = read(fd, pending->frame, sizeof pending->frame);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0 && errno != EAGAIN && batch.count == 0) return -errno;
      if (got <= 0) break;
      pending->size = (uint32_t)got;
      pending->next = 0;
    }
    uint32_t before = batch.count;
    cut(pending->frame, pending->size, &pending->next, &batch);
    if (pending->next != DONE && (before > 0 || batch.count > 0)) break;
    /* Done, or its packets are too large even for an empty batch: then it is lost. */
    pending->size = 0;
  }
  return (int32_t)batch.count;
}

/* Writes a batch, joined where that can be undone. Changes its bytes. Returns how many packets were refused. */
API int32_t tun_write(int32_t fd, uint32_t offloads, uint8_t *bytes, uint32_t size, uint32_t *starts, uint32_t *ends,
                      uint32_t count) {
  struct batch batch = {bytes, size, starts, ends, count, 0, count};
  int device = fd;
  struct writer writer;
  writer.batch = &batch;
  writer.udp = (offloads & TUN_F_USO4) != 0;
  writer.put = put_to_device;
  writer.context = &device;
  return write_batch(&writer);
}

/* Waits until packets can be read (1) or `event` was signalled (0). Blocks: for a thread of its own. */
API int32_t tun_wait(int32_t fd, int32_t event) {
  struct pollfd polled[] = {{fd, POLLIN, 0}, {event, POLLIN, 0}};
  while (poll(polled, 2, -1) < 0)
    if (errno != EINTR) return -errno;
  return polled[1].revents == 0;
}

/* Whether packets can be read at once. */
API int32_t tun_poll(int32_t fd) {
  struct pollfd polled = {fd, POLLIN, 0};
  int ready = poll(&polled, 1, 0);
  return ready < 0 && errno != EINTR ? -errno : ready > 0;
}

API int32_t tun_event(void) {
  int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  return fd < 0 ? -errno : fd;
}

API int32_t tun_signal(int32_t event) { return eventfd_write(event, 1) == 0 ? 0 : -errno; }

/* Sets the MTU (0) or the length of the queue in packets (1) of an interface. */
API int32_t tun_set(const char *name, int32_t what, int32_t value) {
  struct ifreq request = {0};
  if (strnlen(name, IFNAMSIZ) == IFNAMSIZ) return -ENAMETOOLONG;
  strcpy(request.ifr_name, name);
  if (what == 0) request.ifr_mtu = value;
  else request.ifr_qlen = value;
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  int error = ioctl(fd, what == 0 ? SIOCSIFMTU : SIOCSIFTXQLEN, &request) == 0 ? 0 : errno;
  close(fd);
  return -error;
}

API int32_t tun_close(int32_t fd) { return close(fd) == 0 ? 0 : -errno; }

/* For tests: cuts one frame from `*next` on. Returns the count of packets. */
API int32_t tun_segment(const uint8_t *frame, uint32_t frame_size, uint32_t *next, uint8_t *bytes, uint32_t size,
                        uint32_t *starts, uint32_t *ends, uint32_t max) {
  struct batch batch = {bytes, size, starts, ends, max, 0, 0};
  int error = cut(frame, frame_size, next, &batch);
  return error < 0 ? error : (int32_t)batch.count;
}

/* For tests: joins a batch into frames in memory. Returns the count of frames; -ENOSPC when packets were refused. */
API int32_t tun_coalesce(uint8_t *bytes, uint32_t size, uint32_t *starts, uint32_t *ends, uint32_t count,
                         uint8_t *out, uint32_t out_size, uint32_t *out_starts, uint32_t *out_ends, uint32_t out_max) {
  struct batch batch = {bytes, size, starts, ends, count, 0, count};
  struct batch frames = {out, out_size, out_starts, out_ends, out_max, 0, 0};
  struct writer writer;
  writer.batch = &batch;
  writer.udp = 1;
  writer.put = put_to_memory;
  writer.context = &frames;
  return write_batch(&writer) > 0 ? -ENOSPC : (int32_t)frames.count;
}
