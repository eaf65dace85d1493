// SPDX-License-Identifier: Apache-2.0
// A new folder for a test, in memory if there is room. Tests judge durability by reading back, so a disk
// would only make them slower.
#pragma once

#include <ftw.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "test.h"

enum { FOLDER_PATH_BYTES = 64, FOLDER_ROOM_BYTES = 256 << 20 };

// Where folders and files of tests are made.
static inline const char *folder_root(void)
{
    struct statvfs memory;
    bool room = statvfs("/dev/shm", &memory) == 0 && access("/dev/shm", W_OK) == 0 &&
                (uint64_t)memory.f_bavail * memory.f_frsize >= FOLDER_ROOM_BYTES;
    return room ? "/dev/shm" : "/tmp";
}

// What tells names of this process from those that one before it, of the same number, may have left behind.
static inline const char *folder_mark(void)
{
    static char mark[24];
    struct timespec now;
    if (mark[0] == '\0' && clock_gettime(CLOCK_REALTIME, &now) == 0)
        snprintf(mark, sizeof mark, "%d-%08x", (int)getpid(),
                 (unsigned)(now.tv_sec * 1000 + now.tv_nsec / 1000000));
    return mark;
}

static inline void folder_make(char path[FOLDER_PATH_BYTES])
{
    snprintf(path, FOLDER_PATH_BYTES, "%s/sluice-test-XXXXXX", folder_root());
    assert_non_null(mkdtemp(path));
}

static inline int folder_remove_one(const char *path, const struct stat *info, int kind, struct FTW *at)
{
    (void)info;
    (void)kind;
    (void)at;
    return remove(path);
}

// Removes the folder with all that is in it.
static inline void folder_remove(const char *path)
{
    assert_int_equal(nftw(path, folder_remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

// Removes a journal and the files beside it.
static inline void folder_remove_journal(const char *path)
{
    static const char *const SUFFIXES[] = {"", "-wal", "-shm", ".lock", ".new", "-usage"};
    for (size_t i = 0; i < sizeof SUFFIXES / sizeof SUFFIXES[0]; i++) {
        char name[FOLDER_PATH_BYTES + 16];
        snprintf(name, sizeof name, "%s%s", path, SUFFIXES[i]);
        unlink(name);
    }
}
