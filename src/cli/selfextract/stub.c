/*
 * The head of a self-extracting Ginnel file: puts the files appended to it (the runtime and the program) into a
 * private cache folder once, checks that nobody else could have touched them, and becomes the runtime. Where
 * no such folder is to be had, it keeps them in memory. Linux only; linked statically, so it runs anywhere.
 *
 * Layout of the whole file, all numbers little-endian (pack.ts writes it):
 *
 *   this program | packed files (zstd frames) | arguments | entry[count] | trailer
 *   arguments: what the runtime is given before the program's path, each ended by NUL
 *   entry:     name (32, NUL-padded) | offset u64 | packed size u64 | size u64
 *   trailer:   key (64 hexadecimal digits of the SHA-256 of everything before it)
 *              | size of the arguments u64 | count of entries u64 | "GINNELX1"
 *
 * The first entry is the runtime, which is executed; the second the program it is given; the third a shared library
 * that the program opens, where the variable GINNEL_LIBRARY says; GINNEL_PROGRAM says where this file itself is.
 *
 * A capability that `setcap` gave to this file is handed on to the runtime.
 */

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "zstd.h"

enum { NAME_SIZE = 32, KEY_SIZE = 64, MAX_ENTRIES = 16, MAX_ARGUMENTS_SIZE = 4096 };
enum { RUNTIME, PROGRAM, LIBRARY, REQUIRED_ENTRIES };

/* Versions that were not started for this long are removed when a new one is put into the cache. */
static const time_t KEEP_UNUSED_SECONDS = 30 * 24 * 3600;

struct entry {
  char name[NAME_SIZE];
  uint64_t offset, packed, size;
};

struct payload {
  int fd;
  char key[KEY_SIZE + 1];
  size_t count;
  struct entry entries[MAX_ENTRIES];
  size_t arguments_size;
  char arguments[MAX_ARGUMENTS_SIZE];
};

/* Why each place was not taken, for the message when none is left. */
static char refusals[2048];

static void die(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("ginnel: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  exit(1);
}

static void refuse(const char *place, const char *why) {
  size_t used = strlen(refusals);
  snprintf(refusals + used, sizeof refusals - used, "\n  %s: %s", place, why);
}

static uint64_t read_u64(const unsigned char *bytes) {
  uint64_t value = 0;
  for (int i = 7; i >= 0; i--) value = value << 8 | bytes[i];
  return value;
}

static int read_exactly(int fd, void *target, size_t size, uint64_t offset) {
  for (unsigned char *at = target; size > 0;) {
    ssize_t got = pread(fd, at, size, (off_t)offset);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return 0;
    at += got, size -= (size_t)got, offset += (uint64_t)got;
  }
  return 1;
}

static int write_all(int fd, const void *source, size_t size) {
  for (const unsigned char *at = source; size > 0;) {
    ssize_t put = write(fd, at, size);
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return 0;
    at += put, size -= (size_t)put;
  }
  return 1;
}

/* Finds the appended files; every number is checked against the file's size before it is used. */
static void open_payload(struct payload *payload) {
  enum { TRAILER_SIZE = KEY_SIZE + 24, ENTRY_SIZE = NAME_SIZE + 24 };
  static const char damaged[] = "this file is cut short or damaged; fetch it again";
  unsigned char trailer[TRAILER_SIZE], raw[MAX_ENTRIES * ENTRY_SIZE];
  struct stat info;
  payload->fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  if (payload->fd < 0) die("cannot open its own file through /proc/self/exe: %s", strerror(errno));
  if (fstat(payload->fd, &info) != 0 || info.st_size < TRAILER_SIZE) die(damaged);
  uint64_t end = (uint64_t)info.st_size - TRAILER_SIZE;
  if (!read_exactly(payload->fd, trailer, TRAILER_SIZE, end)) die(damaged);
  if (memcmp(trailer + TRAILER_SIZE - 8, "GINNELX1", 8) != 0) die(damaged);
  memcpy(payload->key, trailer, KEY_SIZE);
  uint64_t arguments_size = read_u64(trailer + KEY_SIZE), count = read_u64(trailer + KEY_SIZE + 8);
  if (strspn(payload->key, "0123456789abcdef") != KEY_SIZE || count < REQUIRED_ENTRIES || count > MAX_ENTRIES ||
      arguments_size == 0 || arguments_size > MAX_ARGUMENTS_SIZE || end < count * ENTRY_SIZE + arguments_size)
    die(damaged);
  payload->count = (size_t)count;
  payload->arguments_size = (size_t)arguments_size;
  end -= count * ENTRY_SIZE;
  if (!read_exactly(payload->fd, raw, count * ENTRY_SIZE, end)) die(damaged);
  end -= arguments_size;
  if (!read_exactly(payload->fd, payload->arguments, arguments_size, end)) die(damaged);
  if (payload->arguments[arguments_size - 1] != 0) die(damaged);
  for (size_t i = 0; i < payload->count; i++) {
    const unsigned char *at = raw + i * ENTRY_SIZE;
    struct entry *entry = &payload->entries[i];
    memcpy(entry->name, at, NAME_SIZE);
    entry->offset = read_u64(at + NAME_SIZE);
    entry->packed = read_u64(at + NAME_SIZE + 8);
    entry->size = read_u64(at + NAME_SIZE + 16);
    if (entry->name[NAME_SIZE - 1] != 0 || entry->name[0] == 0 || entry->name[0] == '.' ||
        strchr(entry->name, '/') != NULL || entry->offset > end || entry->packed > end - entry->offset)
      die(damaged);
  }
}

/* Unpacks one entry into `target`. Dies when the data is damaged; returns 0 when `target` cannot take it. */
static int unpack(const struct payload *payload, const struct entry *entry, int target) {
  enum { CHUNK = 1 << 17 };
  static unsigned char packed[CHUNK], plain[CHUNK];
  ZSTD_DStream *stream = ZSTD_createDStream();
  if (stream == NULL) die("out of memory");
  uint64_t offset = entry->offset, left = entry->packed, made = 0;
  size_t status = 1;
  int written = 1;
  while (left > 0 && written) {
    size_t size = left < CHUNK ? (size_t)left : CHUNK;
    if (!read_exactly(payload->fd, packed, size, offset)) die("cannot read its own file: %s", strerror(errno));
    offset += size, left -= size;
    ZSTD_inBuffer input = {packed, size, 0};
    while (input.pos < input.size && written) {
      ZSTD_outBuffer output = {plain, CHUNK, 0};
      status = ZSTD_decompressStream(stream, &output, &input);
      made += output.pos;
      if (ZSTD_isError(status) || made > entry->size) die("this file is damaged (%s); fetch it again", entry->name);
      written = write_all(target, plain, output.pos);
    }
  }
  ZSTD_freeDStream(stream);
  if (written && (status != 0 || made != entry->size)) die("this file is damaged (%s); fetch it again", entry->name);
  return written;
}

/* Nobody but root and us can replace what lies at this existing folder: checked from the root downward. */
static int is_guarded(const char *folder) {
  char real[PATH_MAX];
  struct stat info;
  if (realpath(folder, real) == NULL) return 0;
  for (char *at = real;; at++) {
    if (*at != '/' && *at != 0) continue;
    char kept = *at;
    *at = 0;
    int ok = lstat(at == real ? "/" : real, &info) == 0 && S_ISDIR(info.st_mode) &&
             (info.st_uid == 0 || info.st_uid == geteuid()) &&
             ((info.st_mode & 022) == 0 || (info.st_mode & S_ISVTX) != 0);
    *at = kept;
    if (!ok || kept == 0) return ok;
  }
}

static int is_private(int fd, mode_t type, mode_t forbidden) {
  struct stat info;
  return fstat(fd, &info) == 0 && (info.st_mode & S_IFMT) == type && info.st_uid == geteuid() &&
         (info.st_mode & forbidden) == 0;
}

/* Opens a folder of ours that nobody else can enter; makes it first. */
static int open_private_folder(int parent, const char *name) {
  if (mkdirat(parent, name, 0700) != 0 && errno != EEXIST) return -1;
  int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd >= 0 && !is_private(fd, S_IFDIR, 077)) {
    close(fd);
    errno = EPERM;
    return -1;
  }
  return fd;
}

/* Opens a complete version in the cache, or returns -1. */
static int open_version(int cache, const char *name, const struct payload *payload) {
  int folder = openat(cache, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (folder < 0) return -1;
  int good = is_private(folder, S_IFDIR, 077);
  for (size_t i = 0; good && i < payload->count; i++) {
    struct stat info;
    int file = openat(folder, payload->entries[i].name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    good = file >= 0 && is_private(file, S_IFREG, 077) && fstat(file, &info) == 0 &&
           (uint64_t)info.st_size == payload->entries[i].size;
    if (file >= 0) close(file);
  }
  if (good) return folder;
  close(folder);
  return -1;
}

/* Removes a folder of the cache with what is in it; follows no link. */
static void remove_tree(int parent, const char *name) {
  int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  DIR *folder = fd < 0 ? NULL : fdopendir(fd);
  if (folder == NULL) {
    if (fd >= 0) close(fd);
    return;
  }
  for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    if (unlinkat(fd, entry->d_name, 0) != 0) remove_tree(fd, entry->d_name);
  }
  closedir(folder);
  unlinkat(parent, name, AT_REMOVEDIR);
}

static void remove_unused_versions(int cache, const char *key) {
  int fd = openat(cache, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *folder = fd < 0 ? NULL : fdopendir(fd);
  if (folder == NULL) return;
  for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
    struct stat info;
    size_t length = strspn(entry->d_name, "0123456789abcdef");
    if (length != KEY_SIZE || strcmp(entry->d_name, key) == 0) continue;
    if (fstatat(cache, entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0) continue;
    if (time(NULL) - info.st_mtime > KEEP_UNUSED_SECONDS) remove_tree(cache, entry->d_name);
  }
  closedir(folder);
}

/* Puts all files beside their final place and moves them there in one step; returns the folder or -1. */
static int make_version(int cache, const struct payload *payload) {
  char name[KEY_SIZE + 32];
  snprintf(name, sizeof name, "%s.%ld", payload->key, (long)getpid());
  remove_tree(cache, name);
  if (mkdirat(cache, name, 0700) != 0) return -1;
  int folder = openat(cache, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), good = folder >= 0;
  for (size_t i = 0; good && i < payload->count; i++) {
    mode_t mode = i == RUNTIME ? 0700 : 0600;
    int file = openat(folder, payload->entries[i].name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    good = file >= 0 && unpack(payload, &payload->entries[i], file) && fchmod(file, mode) == 0 && fsync(file) == 0;
    if (file >= 0 && close(file) != 0) good = 0;
  }
  if (folder >= 0) close(folder);
  /* A damaged version, or one that another start finished first, may be in the way. */
  if (good && renameat(cache, name, cache, payload->key) != 0) {
    int other = open_version(cache, payload->key, payload);
    if (other >= 0) close(other);
    else remove_tree(cache, payload->key), renameat(cache, name, cache, payload->key);
  }
  int error = errno;
  remove_tree(cache, name);
  errno = error;
  return open_version(cache, payload->key, payload);
}

/* Takes `base`/`name` as the cache if it is safe and may hold programs; fills `path` with the version's folder. */
static int use_cache(const char *base, const char *name, const struct payload *payload, char path[PATH_MAX]) {
  char place[PATH_MAX];
  struct statvfs system;
  int version = -1;
  if (snprintf(place, sizeof place, "%s/%s", base, name) >= (int)sizeof place - KEY_SIZE - 2) return 0;
  int parent = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (parent < 0) return refuse(place, strerror(errno)), 0;
  int cache = is_guarded(base) ? open_private_folder(parent, name) : (errno = EPERM, -1);
  if (cache < 0) {
    refuse(place, errno == EPERM ? "others could change what lies there" : strerror(errno));
  } else if (fstatvfs(cache, &system) == 0 && (system.f_flag & ST_NOEXEC) != 0) {
    refuse(place, "its file system may not hold programs");
  } else if ((version = open_version(cache, payload->key, payload)) < 0) {
    version = make_version(cache, payload);
    if (version < 0) refuse(place, strerror(errno));
    else remove_unused_versions(cache, payload->key);
  }
  if (version >= 0) {
    futimens(version, NULL);
    close(version);
    snprintf(path, PATH_MAX, "%.*s/%s", PATH_MAX - KEY_SIZE - 2, place, payload->key);
  }
  if (cache >= 0) close(cache);
  close(parent);
  return version >= 0;
}

static int find_cache(const struct payload *payload, char path[PATH_MAX]) {
  char base[PATH_MAX], name[64];
  const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
  if (xdg != NULL && xdg[0] == '/') {
    mkdir(xdg, 0700);
    if (use_cache(xdg, "ginnel", payload, path)) return 1;
  }
  if (home != NULL && home[0] == '/' && snprintf(base, sizeof base, "%s/.cache", home) < (int)sizeof base) {
    mkdir(base, 0700);
    if (use_cache(base, "ginnel", payload, path)) return 1;
  }
  snprintf(name, sizeof name, "ginnel-%lu", (unsigned long)geteuid());
  return use_cache("/tmp", name, payload, path);
}

static int in_memory(const struct payload *payload, const struct entry *entry, unsigned int flags) {
  int fd = memfd_create(entry->name, flags);
  if (fd < 0 || !unpack(payload, entry, fd)) {
    refuse("in memory", strerror(errno));
    die("found no place for its runtime:%s\nGive it a private folder in XDG_CACHE_HOME.", refusals);
  }
  return fd;
}

/* Becomes the runtime. Under user-mode emulation the kernel may not know the file's format: name the emulator. */
static void become(const char *runtime, char **arguments, size_t count) {
#ifdef __aarch64__
  static const char emulator[] = "/usr/bin/qemu-aarch64-static", libraries[] = "/usr/aarch64-linux-gnu";
  if (access(libraries, F_OK) == 0) setenv("QEMU_LD_PREFIX", libraries, 0);
#endif
  execv(runtime, arguments);
#ifdef __aarch64__
  if (errno == ENOEXEC) {
    char **emulated = calloc(count + 2, sizeof *emulated);
    if (emulated == NULL) die("out of memory");
    emulated[0] = (char *)emulator;
    emulated[1] = (char *)runtime;
    memcpy(emulated + 2, arguments + 1, count * sizeof *emulated);
    execv(emulator, emulated);
    errno = ENOEXEC;
  }
#else
  (void)count;
#endif
  if (errno == ENOENT) die("its runtime needs a Linux system with the GNU C library (glibc)");
  die("cannot start its runtime %s: %s", runtime, strerror(errno));
}

/* The capabilities that this file may have by setcap: for TUN interfaces, low ports and raw sockets. */
static const uint32_t GRANTABLE = 1u << CAP_NET_ADMIN | 1u << CAP_NET_BIND_SERVICE | 1u << CAP_NET_RAW;

/* Hands the capabilities that this file has on to what it becomes; 0 when it runs with any other right. */
static int pass_capabilities_on(void) {
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[2] = {{0}};
  if (getuid() != geteuid() || getgid() != getegid() || syscall(SYS_capget, &header, data) != 0) return 0;
  if ((data[0].permitted & ~GRANTABLE) != 0 || data[1].permitted != 0) return 0;
  data[0].effective = data[0].inheritable = data[0].permitted;
  if (syscall(SYS_capset, &header, data) != 0) return 0;
  for (unsigned long i = 0; i < 32; i++)
    if ((data[0].permitted >> i & 1) != 0 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, i, 0, 0) != 0) return 0;
  return 1;
}

/* Keeps of the environment only what cannot turn the runtime, or a program that it starts, into another. */
static void clean_environment(void) {
  static const char *const kept[] = {
      "CONFIGURATION_DIRECTORY", "HOME",    "INVOCATION_ID",     "JOURNAL_STREAM", "LANG", "LC_ALL",
      "LOGNAME",                 "NO_COLOR", "NOTIFY_SOCKET",     "RUNTIME_DIRECTORY", "STATE_DIRECTORY", "TERM",
      "USER",                    "XDG_RUNTIME_DIR"};
  enum { COUNT = sizeof kept / sizeof *kept };
  const char *values[COUNT];
  for (size_t i = 0; i < COUNT; i++) values[i] = getenv(kept[i]);
  clearenv();
  for (size_t i = 0; i < COUNT; i++)
    if (values[i] != NULL) setenv(kept[i], values[i], 1);
  setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
}

int main(int argc, char **argv) {
  static struct payload payload;
  static char path[PATH_MAX], runtime[PATH_MAX + NAME_SIZE + 1], program[PATH_MAX + NAME_SIZE + 1];
  static char library[PATH_MAX + NAME_SIZE + 1], state[PATH_MAX + 8] = "/proc/none", itself[PATH_MAX];
  int privileged = getauxval(AT_SECURE) != 0;
  if (privileged && !pass_capabilities_on())
    die("refuses to run with the rights of another user or file: setcap may give it cap_net_admin, "
        "cap_net_bind_service and cap_net_raw, nothing else");
  if (privileged) clean_environment();
  open_payload(&payload);
  /* A privileged runtime never comes from a folder of the user's. */
  int cached = !privileged && find_cache(&payload, path);
  if (cached) {
    snprintf(runtime, sizeof runtime, "%s/%s", path, payload.entries[RUNTIME].name);
    snprintf(program, sizeof program, "%s/%s", path, payload.entries[PROGRAM].name);
    snprintf(library, sizeof library, "%s/%s", path, payload.entries[LIBRARY].name);
    snprintf(state, sizeof state, "%s/state", path);
  } else {
    snprintf(runtime, sizeof runtime, "/proc/self/fd/%d", in_memory(&payload, &payload.entries[RUNTIME], MFD_CLOEXEC));
    snprintf(program, sizeof program, "/proc/self/fd/%d", in_memory(&payload, &payload.entries[PROGRAM], 0));
    snprintf(library, sizeof library, "/proc/self/fd/%d", in_memory(&payload, &payload.entries[LIBRARY], 0));
  }
  char **arguments = calloc(payload.arguments_size + (size_t)argc + 4, sizeof *arguments);
  size_t count = 0;
  if (arguments == NULL) die("out of memory");
  arguments[count++] = (char *)"ginnel";
  for (size_t at = 0; at < payload.arguments_size; at += strlen(payload.arguments + at) + 1)
    arguments[count++] = payload.arguments + at;
  if (!cached) arguments[count++] = (char *)"--no-code-cache";
  arguments[count++] = program;
  for (int i = 1; i < argc; i++) arguments[count++] = argv[i];
  /* The runtime keeps compiled code beside itself, and looks neither for updates nor for settings of others. */
  setenv("DENO_DIR", state, 1);
  setenv("GINNEL_LIBRARY", library, 1);
  if (readlink("/proc/self/exe", itself, sizeof itself - 1) > 0) setenv("GINNEL_PROGRAM", itself, 1);
  else unsetenv("GINNEL_PROGRAM");
  setenv("DENO_NO_UPDATE_CHECK", "1", 1);
  setenv("DENO_NO_PACKAGE_JSON", "1", 1);
  become(runtime, arguments, count);
}
