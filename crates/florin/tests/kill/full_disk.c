// A disk that is full whenever a test says so, loaded in front of libc: while the file FULL_FLAG exists, no file below
// FULL_FOLDER grows. What lies within a file's size can still be written, as on a real disk.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int is_full(int fd, off_t end) {
    const char *flag = getenv("FULL_FLAG"), *folder = getenv("FULL_FOLDER");
    char link[64], path[4096];
    struct stat status;
    if (!flag || !folder || access(flag, F_OK) != 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    if (strncmp(path, folder, strlen(folder)) != 0 || fstat(fd, &status) != 0) return 0;
    return S_ISREG(status.st_mode) && end > status.st_size;
}

static ssize_t no_space(void) {
    errno = ENOSPC;
    return -1;
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at) {
    static ssize_t (*real)(int, const void *, size_t, off_t);
    if (!real) real = dlsym(RTLD_NEXT, "pwrite");
    return is_full(fd, at + (off_t)size) ? no_space() : real(fd, bytes, size, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t at) {
    static ssize_t (*real)(int, const void *, size_t, off64_t);
    if (!real) real = dlsym(RTLD_NEXT, "pwrite64");
    return is_full(fd, at + (off_t)size) ? no_space() : real(fd, bytes, size, at);
}

ssize_t write(int fd, const void *bytes, size_t size) {
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "write");
    off_t at = lseek(fd, 0, SEEK_CUR);
    return at >= 0 && is_full(fd, at + (off_t)size) ? no_space() : real(fd, bytes, size);
}

int ftruncate(int fd, off_t size) {
    static int (*real)(int, off_t);
    if (!real) real = dlsym(RTLD_NEXT, "ftruncate");
    return is_full(fd, size) ? (int)no_space() : real(fd, size);
}

int ftruncate64(int fd, off64_t size) {
    static int (*real)(int, off64_t);
    if (!real) real = dlsym(RTLD_NEXT, "ftruncate64");
    return is_full(fd, size) ? (int)no_space() : real(fd, size);
}
