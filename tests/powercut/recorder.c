/* Records what a process does to the files below POWERCUT_UNDER, in order, into POWERCUT_JOURNAL.<pid>.

   Preloaded (LD_PRELOAD). Each record: magic u32, kind u8, pad[3], time of CLOCK_MONOTONIC in ns u64, offset u64,
   length u64, path length u32, then path and data. A record is written after the operation succeeded and before its
   caller hears of it; one lock orders all threads. Only what changes a file is recorded. mmap is not seen: SQLite maps
   nothing but its -shm file, which every opening makes anew. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { CREATE = 1, WRITE = 2, TRUNCATE = 3, SYNC = 4, UNLINK = 5, RENAME = 6, LINK = 7 };

struct record {
    uint32_t magic;
    uint8_t kind, pad[3];
    uint64_t at_ns, offset, length;
    uint32_t path_length;
} __attribute__((packed));

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int journal = -1, journal_pid = 0;

#define REAL(name) ((__typeof__(&name))real(#name))
static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

static void all(int fd, const void *data, size_t length) {
    const char *at = data;
    while (length) {
        ssize_t done = REAL(write)(fd, at, length);
        if (done < 0) {
            if (errno == EINTR) continue;
            abort(); /* a hole in the journal would make every judgement worthless */
        }
        at += done;
        length -= (size_t)done;
    }
}

static int concerns(const char *path) {
    const char *under = getenv("POWERCUT_UNDER");
    size_t length = under ? strlen(under) : 0;
    return length && strncmp(path, under, length) == 0 && (path[length] == '/' || path[length] == 0);
}

static int path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return concerns(path);
}

static void absolute(const char *path, char *found) {
    if (*path == '/') { snprintf(found, PATH_MAX, "%s", path); return; }
    char here[PATH_MAX];
    if (!getcwd(here, sizeof here)) here[0] = 0;
    if (snprintf(found, PATH_MAX, "%s/%s", here, path) >= PATH_MAX) found[0] = 0;
}

/* with the lock held */
static void note(int kind, const char *path, uint64_t offset, const void *data, uint64_t length) {
    struct timespec now;
    if (journal < 0 || journal_pid != getpid()) {
        char name[PATH_MAX];
        const char *base = getenv("POWERCUT_JOURNAL");
        if (!base) return;
        snprintf(name, sizeof name, "%s.%d", base, getpid());
        journal = REAL(open)(name, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
        if (journal < 0) abort();
        journal_pid = getpid();
    }
    clock_gettime(CLOCK_MONOTONIC, &now);
    struct record head = {0x54554350u, (uint8_t)kind, {0}, (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec,
                          offset, length, (uint32_t)strlen(path)};
    all(journal, &head, sizeof head);
    all(journal, path, strlen(path));
    if (data) all(journal, data, length);
}

#define LOCKED(work) do { int kept = errno; pthread_mutex_lock(&lock); work; pthread_mutex_unlock(&lock); errno = kept; } while (0)

static int opened(int fd, const char *path, int flags, int existed) {
    char full[PATH_MAX];
    if (fd < 0) return fd;
    absolute(path, full);
    if (concerns(full)) {
        if (!existed && (flags & O_CREAT)) LOCKED(note(CREATE, full, 0, NULL, 0));
        else if (flags & O_TRUNC) LOCKED(note(TRUNCATE, full, 0, NULL, 0));
    }
    return fd;
}

#define OPEN(name)                                                      \
    int name(const char *path, int flags, ...) {                        \
        va_list more; va_start(more, flags);                            \
        mode_t mode = (flags & O_CREAT) ? va_arg(more, mode_t) : 0;     \
        va_end(more);                                                   \
        int existed = access(path, F_OK) == 0;                          \
        return opened(REAL(name)(path, flags, mode), path, flags, existed); \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                    \
    int name(int folder, const char *path, int flags, ...) {            \
        va_list more; va_start(more, flags);                            \
        mode_t mode = (flags & O_CREAT) ? va_arg(more, mode_t) : 0;     \
        va_end(more);                                                   \
        int existed = faccessat(folder, path, F_OK, 0) == 0;            \
        int fd = REAL(name)(folder, path, flags, mode);                 \
        return (folder == AT_FDCWD || *path == '/') ? opened(fd, path, flags, existed) : fd; \
    }
OPENAT(openat)
OPENAT(openat64)

#define PWRITE(name, type)                                              \
    ssize_t name(int fd, const void *data, size_t length, type offset) { \
        char path[PATH_MAX];                                            \
        if (!path_of(fd, path)) return REAL(name)(fd, data, length, offset); \
        pthread_mutex_lock(&lock);                                      \
        ssize_t done = REAL(name)(fd, data, length, offset);            \
        int kept = errno;                                               \
        if (done > 0) note(WRITE, path, (uint64_t)offset, data, (uint64_t)done); \
        pthread_mutex_unlock(&lock);                                    \
        errno = kept;                                                   \
        return done;                                                    \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

ssize_t write(int fd, const void *data, size_t length) {
    char path[PATH_MAX];
    struct stat facts;
    if (fd == journal || !path_of(fd, path) || fstat(fd, &facts) || !S_ISREG(facts.st_mode))
        return REAL(write)(fd, data, length);
    pthread_mutex_lock(&lock);
    ssize_t done = REAL(write)(fd, data, length);
    int kept = errno;
    if (done > 0) note(WRITE, path, (uint64_t)(lseek(fd, 0, SEEK_CUR) - done), data, (uint64_t)done);
    pthread_mutex_unlock(&lock);
    errno = kept;
    return done;
}

#define TRUNC(name, type)                                               \
    int name(int fd, type length) {                                     \
        char path[PATH_MAX];                                            \
        if (!path_of(fd, path)) return REAL(name)(fd, length);          \
        pthread_mutex_lock(&lock);                                      \
        int done = REAL(name)(fd, length);                              \
        int kept = errno;                                               \
        if (!done) note(TRUNCATE, path, (uint64_t)length, NULL, 0);     \
        pthread_mutex_unlock(&lock);                                    \
        errno = kept;                                                   \
        return done;                                                    \
    }
TRUNC(ftruncate, off_t)
TRUNC(ftruncate64, off64_t)

#define SYNCS(name)                                                     \
    int name(int fd) {                                                  \
        char path[PATH_MAX];                                            \
        if (!path_of(fd, path)) return REAL(name)(fd);                  \
        pthread_mutex_lock(&lock);                                      \
        int done = REAL(name)(fd);                                      \
        int kept = errno;                                               \
        if (!done && !getenv("POWERCUT_IGNORES_SYNC")) note(SYNC, path, 0, NULL, 0); \
        pthread_mutex_unlock(&lock);                                    \
        errno = kept;                                                   \
        return done;                                                    \
    }
SYNCS(fsync)
SYNCS(fdatasync)

int unlink(const char *path) {
    char full[PATH_MAX];
    absolute(path, full);
    int done = REAL(unlink)(path);
    if (!done && concerns(full)) LOCKED(note(UNLINK, full, 0, NULL, 0));
    return done;
}

int rename(const char *from, const char *to) {
    char full[PATH_MAX], target[PATH_MAX];
    absolute(from, full);
    absolute(to, target);
    int done = REAL(rename)(from, to);
    if (!done && concerns(full)) LOCKED(note(RENAME, full, 0, target, strlen(target)));
    return done;
}

int link(const char *from, const char *to) {
    char full[PATH_MAX], target[PATH_MAX];
    absolute(from, full);
    absolute(to, target);
    int done = REAL(link)(from, to);
    if (!done && concerns(full)) LOCKED(note(LINK, full, 0, target, strlen(target)));
    return done;
}
