// SPDX-License-Identifier: Apache-2.0
// The file with the usage of flags: eight bytes of magic with the version, a header, one record per flag, and
// a checksum over everything (SipHash, eight bytes, little-endian). It is written under another name and
// renamed, so that there is always a complete file.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/heap.h"
#include "base/siphash.h"
#include "base/wire.h"
#include "flags/set/usage_private.h"

enum {
    MAGIC_BYTES = 8,
    SUM_BYTES = 8,
    FIXED_BYTES = 128, // of a record, besides its texts; and of the header
    VARIANT_NAME_MAX = 1024,
    FILE_BYTES_MAX = 256 << 20,
};

static const char MAGIC[MAGIC_BYTES + 1] = "SLUUSE\0\1";

static uint64_t sum_of(const uint8_t *data, size_t len)
{
    return siphash((struct siphash_key){0x66696c65, 0x75736167}, data, len);
}

// ---- writing ----

static struct slice outcome_name(const struct usage_entry *entry)
{
    if (entry->outcome >= entry->variant_count)
        return (struct slice){"", 0};
    struct slice name = slice_of(entry->variants[entry->outcome].name);
    return name;
}

static bool kept(const struct usage_entry *entry)
{
    return entry->key != NULL;
}

static size_t size_of(const struct usage *usage)
{
    size_t size = MAGIC_BYTES + FIXED_BYTES + SUM_BYTES;
    for (uint32_t i = 0; i < usage->entry_count; i++)
        if (kept(&usage->entries[i]))
            size += FIXED_BYTES + usage->entries[i].key_len + outcome_name(&usage->entries[i]).len;
    return size;
}

static void put_entry(struct wire_writer *w, const struct usage_entry *entry)
{
    struct slice name = outcome_name(entry);
    // A variant name that is too long to keep counts as several variants having answered.
    bool fits = name.len <= VARIANT_NAME_MAX;
    uint64_t outcome = !fits || entry->outcome == USAGE_OUTCOME_NONE ? 0
                       : entry->outcome == USAGE_OUTCOME_DEFAULT     ? 1
                                                                     : 2;
    wire_put_bytes(w, (struct slice){entry->key, entry->key_len});
    wire_put_i64(w, entry->first_seen_ms);
    wire_put_i64(w, entry->last_evaluated_ms);
    wire_put_i64(w, entry->active_watched_ms);
    wire_put_i64(w, entry->gone_watched_ms);
    wire_put_u64(w, outcome);
    wire_put_i64(w, outcome != 0 ? entry->one_variant_since_ms : 0);
    wire_put_i64(w, entry->one_watched_ms);
    wire_put_bytes(w, outcome == 2 ? name : (struct slice){"", 0});
}

static size_t encode(const struct usage *usage, uint8_t *data, size_t cap)
{
    struct wire_writer w = {.data = data, .cap = cap - SUM_BYTES, .len = MAGIC_BYTES};
    uint64_t count = 0;
    memcpy(data, MAGIC, MAGIC_BYTES);
    for (uint32_t i = 0; i < usage->entry_count; i++)
        count += kept(&usage->entries[i]);
    wire_put_i64(&w, usage->now_ms);
    wire_put_i64(&w, usage->watched_ms);
    wire_put_u64(&w, count);
    for (uint32_t i = 0; i < usage->entry_count; i++)
        if (kept(&usage->entries[i]))
            put_entry(&w, &usage->entries[i]);
    CHECK(!w.full);
    uint64_t sum = sum_of(data, w.len);
    for (int i = 0; i < SUM_BYTES; i++)
        data[w.len + (size_t)i] = (uint8_t)(sum >> (8 * i));
    return w.len + SUM_BYTES;
}

static enum status write_all(int fd, const uint8_t *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return status_of_errno(errno);
        data += n;
        len -= (size_t)n;
    }
    return fsync(fd) == 0 ? STATUS_OK : status_of_errno(errno);
}

// Syncs the directory too, because the new name must survive a crash.
static enum status sync_directory(const char *path)
{
    char *directory = heap_strdup(path);
    if (directory == NULL)
        return STATUS_NO_MEMORY;
    char *slash = strrchr(directory, '/');
    if (slash != NULL)
        slash[slash == directory] = '\0';
    int fd = open(slash != NULL ? directory : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum status status = fd >= 0 && fsync(fd) == 0 ? STATUS_OK : status_of_errno(errno);
    if (fd >= 0)
        (void)close(fd);
    heap_free(directory);
    return status;
}

static char *beside(const char *path, const char *suffix)
{
    size_t cap = strlen(path) + strlen(suffix) + 1;
    char *name = heap_alloc(cap, 1);
    if (name != NULL)
        (void)snprintf(name, cap, "%s%s", path, suffix);
    return name;
}

static enum status replace(const char *path, const char *made, const uint8_t *data, size_t len)
{
    int fd = open(made, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return status_of_errno(errno);
    enum status status = write_all(fd, data, len);
    if (close(fd) != 0 && status == STATUS_OK)
        status = status_of_errno(errno);
    if (status == STATUS_OK && rename(made, path) != 0)
        status = status_of_errno(errno);
    if (status == STATUS_OK)
        return sync_directory(path);
    (void)unlink(made);
    return status;
}

enum status usage_file_write(const struct usage *usage)
{
    size_t cap = size_of(usage);
    uint8_t *data = heap_alloc(cap, 1);
    char *made = beside(usage->path, ".new");
    enum status status = STATUS_NO_MEMORY;
    if (data != NULL && made != NULL)
        status = replace(usage->path, made, data, encode(usage, data, cap));
    heap_free(data);
    heap_free(made);
    return status;
}

enum status usage_file_set_aside(const struct usage *usage)
{
    char *aside = beside(usage->path, ".damaged");
    if (aside == NULL)
        return STATUS_NO_MEMORY;
    enum status status = rename(usage->path, aside) == 0 ? STATUS_OK : status_of_errno(errno);
    heap_free(aside);
    return status;
}

// ---- reading ----

static enum status read_all(int fd, uint8_t **data, size_t *len)
{
    struct stat about;
    size_t at = 0;
    if (fstat(fd, &about) != 0)
        return status_of_errno(errno);
    if (!S_ISREG(about.st_mode) || about.st_size > FILE_BYTES_MAX)
        return STATUS_CORRUPT;
    size_t size = (size_t)about.st_size;
    uint8_t *bytes = heap_alloc(size + 1, 1);
    if (bytes == NULL)
        return STATUS_NO_MEMORY;
    while (at < size) {
        ssize_t n = read(fd, bytes + at, size - at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        at += (size_t)n;
    }
    if (at < size) {
        heap_free(bytes);
        return STATUS_IO;
    }
    *data = bytes;
    *len = size;
    return STATUS_OK;
}

static enum status get_entry(struct usage *usage, struct wire_reader *r)
{
    struct slice key = wire_get_bytes(r);
    struct usage_entry read = {.first_seen_ms = wire_get_i64(r)};
    read.last_evaluated_ms = wire_get_i64(r);
    read.active_watched_ms = wire_get_i64(r);
    read.gone_watched_ms = wire_get_i64(r);
    uint64_t outcome = wire_get_u64(r);
    read.one_variant_since_ms = wire_get_i64(r);
    read.one_watched_ms = wire_get_i64(r);
    struct slice name = wire_get_bytes(r);
    if (r->bad || key.len == 0 || key.len > USAGE_KEY_BYTES || outcome > 2 || name.len > VARIANT_NAME_MAX ||
        usage_entry_find(usage, key) != UINT32_MAX)
        return STATUS_CORRUPT;
    uint32_t index = usage_entry_make(usage, key);
    if (index == UINT32_MAX)
        return STATUS_NO_MEMORY;
    struct usage_entry *entry = &usage->entries[index];
    entry->first_seen_ms = read.first_seen_ms;
    entry->last_evaluated_ms = read.last_evaluated_ms;
    entry->active_watched_ms = read.active_watched_ms;
    entry->gone_watched_ms = read.gone_watched_ms;
    entry->one_variant_since_ms = read.one_variant_since_ms;
    entry->one_watched_ms = read.one_watched_ms;
    if (outcome == 1)
        entry->outcome = USAGE_OUTCOME_DEFAULT;
    if (outcome == 2)
        entry->outcome = usage_variant_slot(entry, name);
    return entry->outcome == USAGE_VARIANTS_MAX ? STATUS_NO_MEMORY : STATUS_OK;
}

static enum status decode(struct usage *usage, const uint8_t *data, size_t len)
{
    if (len < MAGIC_BYTES + SUM_BYTES || memcmp(data, MAGIC, MAGIC_BYTES) != 0)
        return STATUS_CORRUPT;
    struct wire_reader r = {.data = data, .len = len - SUM_BYTES, .at = MAGIC_BYTES};
    uint64_t sum = 0;
    for (int i = 0; i < SUM_BYTES; i++)
        sum |= (uint64_t)data[r.len + (size_t)i] << (8 * i);
    if (sum != sum_of(data, r.len))
        return STATUS_CORRUPT;
    usage->now_ms = wire_get_i64(&r);
    usage->watched_ms = wire_get_i64(&r);
    uint64_t count = wire_get_u64(&r);
    if (r.bad || count > USAGE_FLAGS_MAX)
        return STATUS_CORRUPT;
    for (uint64_t i = 0; i < count; i++) {
        enum status status = get_entry(usage, &r);
        if (status != STATUS_OK)
            return status;
    }
    return wire_done(&r) ? STATUS_OK : STATUS_CORRUPT;
}

enum status usage_file_read(struct usage *usage)
{
    uint8_t *data = NULL;
    size_t len = 0;
    int fd = open(usage->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? STATUS_NOT_FOUND : status_of_errno(errno);
    enum status status = read_all(fd, &data, &len);
    (void)close(fd);
    if (status == STATUS_OK)
        status = decode(usage, data, len);
    heap_free(data);
    return status;
}
