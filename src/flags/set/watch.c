// SPDX-License-Identifier: Apache-2.0
// Signs of change by inotify. Watched are the directory of a file, so that a file renamed into place is
// noticed, and the directory where its symbolic links end. A sign only means "look"; source.c finds what
// changed.
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "flags/set/flagset_private.h"

enum { WATCHES_MAX = 512 };

struct flagset_watch {
    int fd;
    uint32_t count;
    struct {
        int wd;
        uint64_t feeds; // bits of the feeds with files in this directory
    } watches[WATCHES_MAX];
};

struct flagset_watch *flagset_watch_open(void)
{
    struct flagset_watch *watch = heap_alloc(1, sizeof *watch);
    if (watch == NULL)
        return NULL;
    watch->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (watch->fd < 0) {
        heap_free(watch);
        return NULL;
    }
    return watch;
}

void flagset_watch_close(struct flagset_watch *watch)
{
    if (watch == NULL)
        return;
    (void)close(watch->fd);
    heap_free(watch);
}

int flagset_watch_fd(const struct flagset_watch *watch)
{
    return watch->fd;
}

static bool add(struct flagset_watch *watch, const char *directory, uint32_t index)
{
    uint32_t mask = IN_CLOSE_WRITE | IN_MODIFY | IN_MOVED_TO | IN_MOVED_FROM | IN_CREATE | IN_DELETE |
                    IN_DELETE_SELF | IN_MOVE_SELF | IN_ATTRIB | IN_ONLYDIR;
    int wd = inotify_add_watch(watch->fd, directory, mask);
    if (wd < 0)
        return false;
    uint32_t i = 0;
    while (i < watch->count && watch->watches[i].wd != wd)
        i++;
    if (i == WATCHES_MAX) {
        (void)inotify_rm_watch(watch->fd, wd);
        return false;
    }
    if (i == watch->count) {
        watch->watches[i].feeds = 0;
        watch->count++;
    }
    watch->watches[i].wd = wd;
    watch->watches[i].feeds |= UINT64_C(1) << index;
    return true;
}

static void parent_of(const char *path, char directory[PATH_MAX])
{
    (void)snprintf(directory, PATH_MAX, "%s", path);
    char *slash = strrchr(directory, '/');
    if (slash == NULL)
        (void)snprintf(directory, PATH_MAX, ".");
    else
        slash[slash == directory ? 1 : 0] = '\0';
}

// Any link on the way can be replaced by another, so the directories of all links are watched.
static bool add_links(struct flagset_watch *watch, const char *path, uint32_t index)
{
    char prefix[PATH_MAX];
    char directory[PATH_MAX];
    bool watched = true;
    for (const char *end = path; *end != '\0';) {
        struct stat stat;
        end += strspn(end, "/");
        end += strcspn(end, "/");
        (void)snprintf(prefix, sizeof prefix, "%.*s", (int)(end - path), path);
        if (lstat(prefix, &stat) != 0 || !S_ISLNK(stat.st_mode))
            continue;
        parent_of(prefix, directory);
        watched = add(watch, directory, index) && watched;
    }
    return watched;
}

bool flagset_watch_feed(struct flagset_watch *watch, const struct flagset_feed *feed, uint32_t index)
{
    char directory[PATH_MAX];
    char real[PATH_MAX];
    bool watched = add_links(watch, feed->name, index);
    if (feed->kind == FLAGSET_DIRECTORY)
        return add(watch, feed->name, index) && watched;
    parent_of(feed->name, directory);
    watched = add(watch, directory, index) && watched;
    if (realpath(feed->name, real) == NULL)
        return watched;
    parent_of(real, directory);
    return add(watch, directory, index) && watched;
}

void flagset_watch_forget(struct flagset_watch *watch)
{
    for (uint32_t i = 0; i < watch->count; i++)
        (void)inotify_rm_watch(watch->fd, watch->watches[i].wd);
    watch->count = 0;
}

static uint64_t follow(struct flagset_watch *watch, const struct inotify_event *event)
{
    if ((event->mask & IN_Q_OVERFLOW) != 0)
        return UINT64_MAX;
    for (uint32_t i = 0; i < watch->count; i++) {
        if (watch->watches[i].wd != event->wd)
            continue;
        uint64_t feeds = watch->watches[i].feeds;
        if ((event->mask & IN_IGNORED) != 0)
            watch->watches[i] = watch->watches[--watch->count];
        return feeds;
    }
    return 0;
}

uint64_t flagset_watch_drain(struct flagset_watch *watch)
{
    _Alignas(struct inotify_event) char buffer[16384];
    uint64_t feeds = 0;
    for (;;) {
        ssize_t len = read(watch->fd, buffer, sizeof buffer);
        if (len <= 0)
            return feeds;
        for (ssize_t at = 0; at < len;) {
            struct inotify_event event;
            memcpy(&event, buffer + at, sizeof event);
            feeds |= follow(watch, &event);
            at += (ssize_t)(sizeof event + event.len);
        }
    }
}
