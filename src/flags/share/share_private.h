// SPDX-License-Identifier: Apache-2.0
// What writer and reader agree on: the page `current` and the names of images.
//
// The page has a sequence and two places. The writer fills the place that is not in force, then raises the
// sequence. So the page is complete at every instant, and when a writer dies the previous image stays in
// force. A reader that finds the sequence unchanged after reading its place has read a complete place,
// because that place is written again only after the sequence has moved on.
#pragma once

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include "flags/share/share.h"

#define SHARE_MAGIC UINT64_C(0x31454741504c4653) // the bytes "SFLPAGE1" in the right byte order

enum {
    SHARE_PAGE_BYTES = 4096,
    SHARE_NAME_BYTES = 32,
    SHARE_DIRECTORY_MODE = 0755,
    SHARE_FILE_MODE = 0644,
};

struct share_place {
    _Atomic uint64_t image; // the number in the file's name
    _Atomic uint64_t len;
};

struct share_page {
    _Atomic uint64_t magic;
    _Atomic uint64_t sequence; // 0: nothing was published yet
    struct share_place places[2];
};

_Static_assert(sizeof(struct share_page) <= SHARE_PAGE_BYTES, "one page");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "processes share no lock");

// Whether only the directory's owner can put images there; with `own` (the writer) the owner must also be
// this user or root. An image is guarded against damage, not against forgery, and readers believe it.
static inline bool share_directory_safe(int fd, bool own)
{
    struct stat facts;
    if (fstat(fd, &facts) != 0)
        return false;
    return (facts.st_mode & S_IWOTH) == 0 && (!own || facts.st_uid == geteuid() || facts.st_uid == 0);
}

void share_image_name(uint64_t image, char name[SHARE_NAME_BYTES]);
// False for names that are not an image's.
bool share_image_number(const char *name, uint64_t *image);
