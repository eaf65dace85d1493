// SPDX-License-Identifier: Apache-2.0
// Sources that are files or directories. Changes are found by looking at the files, whatever signalled them.
// When a file cannot be read, the content read before stays; a file that left a directory leaves the set.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "flags/set/flagset_private.h"

uint64_t flagset_now_us(void)
{
    struct timespec now;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

int64_t flagset_wall_ms(void)
{
    struct timespec now;
    CHECK(clock_gettime(CLOCK_REALTIME, &now) == 0);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

// ---- one file ----

static int64_t nanoseconds(struct timespec time)
{
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static struct flagset_signature signature_of(const struct stat *stat)
{
    return (struct flagset_signature){
        .device = stat->st_dev,
        .inode = stat->st_ino,
        .size = (uint64_t)stat->st_size,
        .modified_ns = nanoseconds(stat->st_mtim),
        .changed_ns = nanoseconds(stat->st_ctim),
    };
}

static bool same_signature(const struct flagset_signature *a, const struct flagset_signature *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size &&
           a->modified_ns == b->modified_ns && a->changed_ns == b->changed_ns;
}

static void close_fd(const int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
}

__attribute__((format(printf, 3, 4))) static enum status say(char *problem, const char *name,
                                                             const char *format, ...)
{
    char words[FLAGSET_PROBLEM_BYTES];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(words, sizeof words, format, arguments);
    va_end(arguments);
    struct text text = text_over(problem, FLAGSET_PROBLEM_BYTES);
    text_addf(&text, "%s: %s", name, words);
    return STATUS_IO;
}

// The bytes of a regular file. When the file grows meanwhile, only its first length is read.
static enum status read_file(const char *path, char **json, size_t *len, struct flagset_signature *seen,
                             char *problem)
{
    struct stat stat;
    DEFER(close_fd) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &stat) != 0) {
        int error_number = errno;
        (void)say(problem, path, error_number == ENOENT ? "there is no such file" : "cannot be read (%s)",
                  status_name(status_of_errno(error_number)));
        return error_number == ENOENT ? STATUS_NOT_FOUND : STATUS_IO;
    }
    *seen = signature_of(&stat);
    if (!S_ISREG(stat.st_mode))
        return say(problem, path, "is not a file");
    if (stat.st_size > FLAGSET_SOURCE_BYTES_MAX)
        return say(problem, path, "is larger than %d MiB", FLAGSET_SOURCE_BYTES_MAX >> 20);
    size_t size = (size_t)stat.st_size;
    size_t have = 0;
    char *data = heap_alloc(size + 1, 1);
    if (data == NULL)
        return say(problem, path, "no memory to read it");
    while (have < size) {
        ssize_t n = read(fd, data + have, size - have);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            heap_free(data);
            return say(problem, path, "cannot be read (%s)", status_name(status_of_errno(errno)));
        }
        if (n == 0)
            break;
        have += (size_t)n;
    }
    *json = data;
    *len = have;
    return STATUS_OK;
}

static unsigned set_problem(char *problem, const char *words)
{
    if (strcmp(problem, words) == 0)
        return 0;
    (void)snprintf(problem, FLAGSET_PROBLEM_BYTES, "%s", words);
    return FLAGSET_NEW_MESSAGES;
}

// What cannot be read takes the place of what was refused, and what was wrong with that is told no more.
static unsigned take_unreadable(struct flagset_item *item, const char *problem)
{
    unsigned changed = set_problem(item->problem, problem);
    if (item->newest == item->good)
        return changed;
    flagset_document_unref(item->newest);
    item->newest = flagset_document_ref(item->good);
    return changed | FLAGSET_NEW_CONTENT;
}

static unsigned take_content(struct flagset_item *item, const char *source, char *json, size_t len)
{
    char problem[FLAGSET_PROBLEM_BYTES] = "";
    struct flagset_document *document;
    if (item->newest != NULL && item->newest->len == len && memcmp(item->newest->json, json, len) == 0) {
        heap_free(json);
        return set_problem(item->problem, "");
    }
    if (flagset_document_create(item->path, source, json, len, &document, problem) != STATUS_OK)
        return take_unreadable(item, problem[0] != '\0' ? problem : "no memory to read it");
    flagset_document_unref(item->newest);
    item->newest = document;
    (void)set_problem(item->problem, "");
    return FLAGSET_NEW_CONTENT;
}

// Changes within one tick of the file's clock leave no trace in its
// signature, so a file that changed just now is read once more.
static unsigned look_at_item(struct flagset_item *item, const char *source, int64_t *read_ms, bool *gone)
{
    char problem[FLAGSET_PROBLEM_BYTES];
    struct flagset_signature now;
    struct stat stat_now;
    char *json = NULL;
    size_t len = 0;
    if (stat(item->path, &stat_now) == 0) {
        now = signature_of(&stat_now);
        if (same_signature(&now, &item->seen) && !item->unsettled)
            return 0;
    }
    enum status status = read_file(item->path, &json, &len, &now, problem);
    *gone = status == STATUS_NOT_FOUND;
    if (status != STATUS_OK) {
        item->seen = (struct flagset_signature){0};
        item->unsettled = false;
        return take_unreadable(item, problem);
    }
    CHECK(json != NULL);
    int64_t wall_ms = flagset_wall_ms();
    item->seen = now;
    item->unsettled = now.modified_ns / 1000000 + FLAGSET_SETTLE_MS > wall_ms &&
                      now.modified_ns / 1000000 <= wall_ms + FLAGSET_SETTLE_MS;
    *read_ms = wall_ms;
    return take_content(item, source, json, len);
}

static void item_deinit(struct flagset_item *item)
{
    heap_free(item->path);
    flagset_document_unref(item->newest);
    flagset_document_unref(item->good);
}

// ---- directories ----

static int order_paths(const void *a, const void *b)
{
    const struct flagset_item *x = a;
    const struct flagset_item *y = b;
    return strcmp(x->path, y->path);
}

static struct flagset_item *add_item(struct flagset_feed *feed, const char *path)
{
    void *items = heap_resize(feed->items, (feed->item_count + 1) * sizeof *feed->items);
    if (items == NULL)
        return NULL;
    feed->items = items;
    struct flagset_item *item = &feed->items[feed->item_count];
    *item = (struct flagset_item){.path = heap_strdup(path)};
    if (item->path == NULL)
        return NULL;
    feed->item_count++;
    return item;
}

static bool note_file(struct flagset_feed *feed, const char *path)
{
    for (uint32_t i = 0; i < feed->item_count; i++) {
        if (strcmp(feed->items[i].path, path) == 0) {
            feed->items[i].seen_here = true;
            return true;
        }
    }
    struct flagset_item *item = add_item(feed, path);
    if (item != NULL)
        item->seen_here = true;
    return item != NULL;
}

static bool ends_in_json(const char *name)
{
    size_t len = strlen(name);
    return name[0] != '.' && len > 5 && strcmp(name + len - 5, ".json") == 0;
}

// Marks the items that exist and adds new ones. False: the directory cannot be read as a source.
static bool list_directory(struct flagset_feed *feed, char *problem)
{
    char path[FLAGSET_NAME_BYTES + 256];
    uint32_t count = 0;
    bool well = true;
    DIR *directory = opendir(feed->name);
    if (directory == NULL) {
        int error_number = errno;
        (void)say(problem, feed->name,
                  error_number == ENOENT ? "there is no such directory" : "cannot be read (%s)",
                  status_name(status_of_errno(error_number)));
        return false;
    }
    for (uint32_t i = 0; i < feed->item_count; i++)
        feed->items[i].seen_here = false;
    for (struct dirent *entry; well && (entry = readdir(directory)) != NULL;) {
        if (!ends_in_json(entry->d_name))
            continue;
        (void)snprintf(path, sizeof path, "%s/%s", feed->name, entry->d_name);
        if (++count > FLAGSET_DIRECTORY_FILES_MAX) {
            (void)say(problem, feed->name, "has more than %d files", FLAGSET_DIRECTORY_FILES_MAX);
            well = false;
        } else if (!note_file(feed, path)) {
            (void)say(problem, feed->name, "no memory to read it");
            well = false;
        }
    }
    (void)closedir(directory);
    return well;
}

static unsigned drop_gone(struct flagset_feed *feed)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < feed->item_count; i++) {
        if (feed->items[i].seen_here)
            feed->items[kept++] = feed->items[i];
        else
            item_deinit(&feed->items[i]);
    }
    bool dropped = kept != feed->item_count;
    feed->item_count = kept;
    if (kept > 1)
        qsort(feed->items, kept, sizeof *feed->items, order_paths);
    return dropped ? FLAGSET_NEW_CONTENT : 0;
}

static unsigned look_at_directory(struct flagset_feed *feed)
{
    char problem[FLAGSET_PROBLEM_BYTES] = "";
    unsigned changed = 0;
    if (!list_directory(feed, problem)) {
        feed->gone = true;
        return set_problem(feed->problem, problem);
    }
    feed->gone = false;
    changed |= set_problem(feed->problem, "");
    changed |= drop_gone(feed);
    feed->read_ms = flagset_wall_ms();
    for (uint32_t i = 0; i < feed->item_count; i++) {
        int64_t read_ms;
        bool gone;
        changed |= look_at_item(&feed->items[i], feed->name, &read_ms, &gone);
    }
    return changed;
}

// ---- feeds ----

static uint64_t next_look(const struct flagset_feed *feed, uint64_t now_us)
{
    uint64_t ms = feed->watched ? FLAGSET_LOOK_MS : FLAGSET_POLL_MS;
    for (uint32_t i = 0; i < feed->item_count; i++)
        if (feed->items[i].unsettled)
            ms = FLAGSET_SETTLE_MS;
    return now_us + ms * 1000;
}

unsigned flagset_feed_look(struct flagset_feed *feed, uint64_t now_us)
{
    unsigned changed = 0;
    if (feed->kind == FLAGSET_FILE)
        changed = look_at_item(&feed->items[0], feed->name, &feed->read_ms, &feed->gone);
    else if (feed->kind == FLAGSET_DIRECTORY)
        changed = look_at_directory(feed);
    feed->first_us = 0;
    feed->due_us = feed->kind <= FLAGSET_DIRECTORY ? next_look(feed, now_us) : UINT64_MAX;
    return changed;
}

unsigned flagset_feed_take(struct flagset_feed *feed, char *json, size_t len)
{
    feed->read_ms = flagset_wall_ms();
    unsigned changed = set_problem(feed->problem, "");
    return changed | take_content(&feed->items[0], feed->name, json, len);
}

enum status flagset_feed_init(struct flagset_feed *feed, const struct flagset_source *source)
{
    *feed = (struct flagset_feed){
        .kind = source->kind,
        .every_ms = source->every_ms != 0 ? source->every_ms : FLAGSET_EVERY_MS,
    };
    if (strlen(source->name) >= sizeof feed->name)
        return STATUS_RANGE;
    (void)snprintf(feed->name, sizeof feed->name, "%s", source->name);
    if (source->token_file != NULL && (feed->token_file = heap_strdup(source->token_file)) == NULL)
        return STATUS_NO_MEMORY;
    if (source->kind != FLAGSET_DIRECTORY && add_item(feed, source->name) == NULL)
        return STATUS_NO_MEMORY;
    if (source->kind != FLAGSET_INLINE)
        return STATUS_OK;
    char *json = heap_alloc(source->json.len + 1, 1);
    if (json == NULL)
        return STATUS_NO_MEMORY;
    if (source->json.len > 0)
        memcpy(json, source->json.data, source->json.len);
    (void)flagset_feed_take(feed, json, source->json.len);
    return STATUS_OK;
}

void flagset_feed_deinit(struct flagset_feed *feed)
{
    for (uint32_t i = 0; i < feed->item_count; i++)
        item_deinit(&feed->items[i]);
    heap_free(feed->items);
    heap_free(feed->token_file);
}
