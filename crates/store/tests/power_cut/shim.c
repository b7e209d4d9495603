// A file layer for tests, loaded in front of libc: it knows which bytes of a SQLite file and its log a disk would hold.
//
// Beside each tracked file lies FILE.durable, what survives a power cut. A write goes to the file itself, as into the
// system's cache, and to a list; a sync carries the list into the durable image. A power cut carries over a random subset
// of the list's 512-byte sectors, puts the images in the files' places and kills the process. A failed sync loses a random
// subset for good, says EIO, and thinks the rest written, as Linux does.
//
//   SHIM_FILE     the name of the SQLite file
//   SHIM_SEED     seed of what survives
//   SHIM_CUT_AT   cut at this write, truncation or sync, counted from 1; 0 for never
//   SHIM_FAIL_AT  fail this sync, counted from 1; 0 for never

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILES_MAX = 8, FDS_MAX = 1024, SECTOR = 512 };

struct op {
    struct op *next;
    off_t at;
    size_t size;
    int truncation;
    unsigned char *bytes;
};

struct file {
    char path[4096];
    int image;
    struct op *first, **last;
};

static struct file files[FILES_MAX];
static int file_count;
static struct file *of_fd[FDS_MAX];
static uint64_t seed;
static long cut_at, fail_at, op_count, sync_count;

static int (*real_open)(const char *, int, ...);
static int (*real_close)(int);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static int (*real_ftruncate)(int, off_t);
static int (*real_fsync)(int);
static int (*real_unlink)(const char *);

static void die(const char *what) {
    dprintf(2, "shim: %s: %s\n", what, strerror(errno));
    abort();
}

static void *next(const char *name) {
    void *symbol = dlsym(RTLD_NEXT, name);
    if (!symbol) die(name);
    return symbol;
}

static long number(const char *name) {
    const char *text = getenv(name);
    return text ? atol(text) : 0;
}

static void start(void) {
    if (real_open) return;
    real_close = next("close");
    real_write = next("write");
    real_pwrite = next("pwrite");
    real_ftruncate = next("ftruncate");
    real_fsync = next("fsync");
    real_unlink = next("unlink");
    seed = (uint64_t)number("SHIM_SEED");
    cut_at = number("SHIM_CUT_AT");
    fail_at = number("SHIM_FAIL_AT");
    real_open = next("open");
}

// SplitMix64.
static uint64_t draw(void) {
    uint64_t mixed = seed += 0x9e3779b97f4a7c15u;
    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebu;
    return mixed ^ mixed >> 31;
}

static int tracked(const char *path) {
    const char *file = getenv("SHIM_FILE"), *name = strrchr(path, '/');
    size_t length = file ? strlen(file) : 0;
    if (!length || !name++ || strncmp(name, file, length) != 0) return 0;
    name += length;
    return !*name || strcmp(name, "-wal") == 0 || strcmp(name, "-journal") == 0;
}

static void image_path(char *out, const char *path) { snprintf(out, 4200, "%s.durable", path); }

static void put(int fd, const void *bytes, size_t size, off_t at) {
    if (real_pwrite(fd, bytes, size, at) != (ssize_t)size) die("write to an image");
}

static struct file *file_of(const char *path, int fd) {
    for (int i = 0; i < file_count; i++)
        if (strcmp(files[i].path, path) == 0) return &files[i];
    if (file_count == FILES_MAX) die("too many files");
    struct file *file = &files[file_count++];
    char name[4200];
    struct stat stat;
    snprintf(file->path, sizeof file->path, "%s", path);
    file->last = &file->first;
    image_path(name, path);
    int known = access(name, F_OK) == 0;
    file->image = real_open(name, O_RDWR | O_CREAT, 0600);
    if (file->image < 0 || fstat(fd, &stat) != 0) die(name);
    if (!known && stat.st_size > 0) {
        // What an earlier process left counts as durable.
        unsigned char *bytes = malloc(stat.st_size);
        int copy = real_open(path, O_RDONLY);
        if (!bytes || copy < 0 || pread(copy, bytes, stat.st_size, 0) != stat.st_size) die(path);
        put(file->image, bytes, stat.st_size, 0);
        real_close(copy);
        free(bytes);
    }
    return file;
}

static void apply(struct file *file, struct op *op) {
    if (op->truncation) {
        if (real_ftruncate(file->image, op->at) != 0) die("truncation of an image");
    } else {
        put(file->image, op->bytes, op->size, op->at);
    }
}

static void apply_torn(struct file *file, struct op *op, uint64_t mode) {
    if (mode == 0) return;
    if (op->truncation) {
        if (draw() & 1) apply(file, op);
        return;
    }
    for (size_t done = 0; done < op->size;) {
        size_t piece = SECTOR - (op->at + done) % SECTOR;
        if (piece > op->size - done) piece = op->size - done;
        // Mode 1 loses few sectors, mode 2 half of them, mode 3 nearly all.
        if (draw() % 16 >= (mode == 1 ? 1 : mode == 2 ? 8 : 15)) put(file->image, op->bytes + done, piece, op->at + done);
        done += piece;
    }
}

static void drop(struct file *file) {
    for (struct op *op = file->first; op;) {
        struct op *after = op->next;
        free(op->bytes);
        free(op);
        op = after;
    }
    file->first = NULL;
    file->last = &file->first;
}

static void settle(struct file *file, int torn) {
    uint64_t mode = draw() % 4;
    for (struct op *op = file->first; op; op = op->next) {
        if (torn) apply_torn(file, op, mode);
        else apply(file, op);
    }
    drop(file);
}

static void cut(void) {
    for (int i = 0; i < file_count; i++) {
        char name[4200];
        settle(&files[i], 1);
        image_path(name, files[i].path);
        if (rename(name, files[i].path) != 0) die("cut");
    }
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

static void count(void) {
    if (++op_count == cut_at) cut();
}

static void note(struct file *file, int truncation, const void *bytes, size_t size, off_t at) {
    struct op *op = calloc(1, sizeof *op);
    if (!op || (size && !(op->bytes = malloc(size)))) die("no memory");
    if (size) memcpy(op->bytes, bytes, size);
    op->size = size;
    op->at = at;
    op->truncation = truncation;
    *file->last = op;
    file->last = &op->next;
    count();
}

static struct file *file_at(int fd) { return fd >= 0 && fd < FDS_MAX ? of_fd[fd] : NULL; }

static int opened(const char *path, int fd, int flags) {
    if (fd >= 0 && fd < FDS_MAX && tracked(path) && (flags & O_ACCMODE) != O_RDONLY) of_fd[fd] = file_of(path, fd);
    return fd;
}

int open(const char *path, int flags, ...) {
    va_list rest;
    start();
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return opened(path, real_open(path, flags, mode), flags);
}

int open64(const char *path, int flags, ...) {
    va_list rest;
    start();
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return opened(path, real_open(path, flags, mode), flags);
}

int close(int fd) {
    start();
    if (file_at(fd)) of_fd[fd] = NULL;
    return real_close(fd);
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at) {
    start();
    ssize_t done = real_pwrite(fd, bytes, size, at);
    if (done > 0 && file_at(fd)) note(file_at(fd), 0, bytes, done, at);
    return done;
}

ssize_t pwrite64(int fd, const void *bytes, size_t size, off_t at) { return pwrite(fd, bytes, size, at); }

ssize_t write(int fd, const void *bytes, size_t size) {
    start();
    if (!file_at(fd)) return real_write(fd, bytes, size);
    off_t at = lseek(fd, 0, SEEK_CUR);
    ssize_t done = real_write(fd, bytes, size);
    if (done > 0) note(file_at(fd), 0, bytes, done, at);
    return done;
}

int ftruncate(int fd, off_t size) {
    start();
    int done = real_ftruncate(fd, size);
    if (done == 0 && file_at(fd)) note(file_at(fd), 1, NULL, 0, size);
    return done;
}

int ftruncate64(int fd, off_t size) { return ftruncate(fd, size); }

int fsync(int fd) {
    start();
    struct file *file = file_at(fd);
    // The disk of the machine that runs the test need not work for this.
    if (!file) return 0;
    count();
    int fails = ++sync_count == fail_at;
    settle(file, fails);
    if (!fails) return 0;
    errno = EIO;
    return -1;
}

int fdatasync(int fd) { return fsync(fd); }

int unlink(const char *path) {
    start();
    int done = real_unlink(path);
    for (int i = 0; done == 0 && i < file_count; i++) {
        if (strcmp(files[i].path, path) != 0) continue;
        drop(&files[i]);
        if (real_ftruncate(files[i].image, 0) != 0) die("truncation of an image");
    }
    return done;
}
