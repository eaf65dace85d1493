// SPDX-License-Identifier: Apache-2.0
// The reading side. It opens nothing for writing and takes no lock. Files are measured before they are mapped
// and are never shortened in place, so reading a mapping cannot fault. Their content is believed only after
// the image's own checksum was verified.
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/heap.h"
#include "flags/share/share_private.h"

struct share_reader {
    int directory;
    int lock;
    const struct share_page *page;
    struct stat current;   // identifies the file that holds the page
    _Atomic uint64_t seen; // the sequence last given or refused
};

void share_reader_close(struct share_reader *reader)
{
    if (reader == NULL)
        return;
    if (reader->page != NULL) {
        union {
            const struct share_page *page;
            void *address;
        } mapped = {reader->page};
        (void)munmap(mapped.address, SHARE_PAGE_BYTES);
    }
    if (reader->lock >= 0)
        (void)close(reader->lock);
    if (reader->directory >= 0)
        (void)close(reader->directory);
    heap_free(reader);
}

static enum status map_page(struct share_reader *reader)
{
    enum status status = STATUS_OK;
    int fd = openat(reader->directory, "current", O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return errno == ENOENT ? STATUS_NOT_FOUND : status_of_errno(errno);
    void *page = MAP_FAILED;
    if (fstat(fd, &reader->current) != 0)
        status = status_of_errno(errno);
    else if (reader->current.st_size < SHARE_PAGE_BYTES)
        // Either the writer has made the file but not yet its page, or the file is damaged.
        status = reader->current.st_size == 0 ? STATUS_NOT_FOUND : STATUS_CORRUPT;
    else if ((page = mmap(NULL, SHARE_PAGE_BYTES, PROT_READ, MAP_SHARED, fd, 0)) == MAP_FAILED)
        status = status_of_errno(errno);
    else
        reader->page = page;
    (void)close(fd);
    return status;
}

static enum status check_page(const struct share_page *page)
{
    uint64_t magic = atomic_load_explicit(&page->magic, memory_order_acquire);
    if (magic != 0 && magic != SHARE_MAGIC)
        return STATUS_CORRUPT;
    if (magic == 0 || atomic_load_explicit(&page->sequence, memory_order_acquire) == 0)
        return STATUS_NOT_FOUND;
    return STATUS_OK;
}

enum status share_reader_open(const char *directory, struct share_reader **out)
{
    struct share_reader *reader = heap_alloc(1, sizeof *reader);
    if (reader == NULL)
        return STATUS_NO_MEMORY;
    reader->lock = -1;
    reader->directory = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum status status = STATUS_OK;
    if (reader->directory < 0)
        status = errno == ENOENT ? STATUS_NOT_FOUND : status_of_errno(errno);
    else if (!share_directory_safe(reader->directory, false))
        status = STATUS_DENIED;
    if (status == STATUS_OK)
        status = map_page(reader);
    if (status == STATUS_OK)
        status = check_page(reader->page);
    if (status != STATUS_OK) {
        share_reader_close(reader);
        return status;
    }
    reader->lock = openat(reader->directory, "lock", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    *out = reader;
    return STATUS_OK;
}

bool share_reader_stale(const struct share_reader *reader)
{
    return atomic_load_explicit(&reader->page->sequence, memory_order_acquire) !=
           atomic_load_explicit(&reader->seen, memory_order_relaxed);
}

bool share_reader_written(const struct share_reader *reader)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return reader->lock >= 0 && fcntl(reader->lock, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

bool share_reader_replaced(const struct share_reader *reader, const char *directory)
{
    struct stat now;
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool there = fstatat(fd, "current", &now, AT_SYMLINK_NOFOLLOW) == 0;
    (void)close(fd);
    return there && (now.st_ino != reader->current.st_ino || now.st_dev != reader->current.st_dev);
}

// Maps a file of exactly that length; STATUS_CORRUPT for any other length.
static enum status map_image(const struct share_reader *reader, uint64_t image, uint64_t len, void **data)
{
    char name[SHARE_NAME_BYTES];
    struct stat facts;
    enum status status = STATUS_OK;
    share_image_name(image, name);
    int fd = openat(reader->directory, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return errno == ENOENT ? STATUS_CORRUPT : status_of_errno(errno);
    if (fstat(fd, &facts) != 0)
        status = status_of_errno(errno);
    else if (!S_ISREG(facts.st_mode) || len == 0 || (uint64_t)facts.st_size != len)
        status = STATUS_CORRUPT;
    if (status == STATUS_OK) {
        void *mapped = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0);
        if (mapped == MAP_FAILED)
            status = status_of_errno(errno);
        else
            *data = mapped;
    }
    (void)close(fd);
    return status;
}

// STATUS_AGAIN when the writer may have written the place while it was read.
static enum status read_place(const struct share_page *page, uint64_t sequence, uint64_t *image,
                              uint64_t *len)
{
    const struct share_place *place = &page->places[sequence % 2];
    *image = atomic_load_explicit(&place->image, memory_order_acquire);
    *len = atomic_load_explicit(&place->len, memory_order_acquire);
    return atomic_load_explicit(&page->sequence, memory_order_acquire) == sequence ? STATUS_OK : STATUS_AGAIN;
}

static enum status take(const struct share_reader *reader, uint64_t sequence, struct share_mapping *mapping)
{
    uint64_t image;
    uint64_t len;
    void *data = NULL;
    struct flags_image set;
    if (atomic_load_explicit(&reader->page->magic, memory_order_acquire) != SHARE_MAGIC)
        return STATUS_CORRUPT;
    enum status status = read_place(reader->page, sequence, &image, &len);
    if (status == STATUS_OK)
        status = map_image(reader, image, len, &data);
    if (status != STATUS_OK)
        return status;
    status = flags_image_open(data, len, &set);
    if (status != STATUS_OK) {
        (void)munmap(data, len);
        return status;
    }
    *mapping = (struct share_mapping){.set = set, .data = data, .len = len, .sequence = sequence};
    return STATUS_OK;
}

enum status share_reader_take(struct share_reader *reader, struct share_mapping *mapping)
{
    uint64_t sequence = atomic_load_explicit(&reader->page->sequence, memory_order_acquire);
    if (sequence == 0)
        return STATUS_NOT_FOUND;
    enum status status = take(reader, sequence, mapping);
    // An image that is missing or wrong because a newer one replaced it is not damaged.
    if (status == STATUS_CORRUPT &&
        atomic_load_explicit(&reader->page->sequence, memory_order_acquire) != sequence)
        status = STATUS_AGAIN;
    if (status == STATUS_OK || status == STATUS_CORRUPT)
        atomic_store_explicit(&reader->seen, sequence, memory_order_relaxed);
    return status;
}

void share_mapping_drop(struct share_mapping *mapping)
{
    if (mapping->data != NULL)
        (void)munmap(mapping->data, mapping->len);
    *mapping = (struct share_mapping){0};
}
