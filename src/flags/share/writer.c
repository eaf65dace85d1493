// SPDX-License-Identifier: Apache-2.0
// The writing side: one process per directory, by a lock that ends with the process. The daemon can make an
// image again at any time, so nothing is synced to the disk: after a power cut a reader may find a damaged
// image, which it refuses by the checksum, and the daemon's next start publishes a good one.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/heap.h"
#include "flags/share/share_private.h"

static const char TEMPORARY[] = "image.new";

struct share_writer {
    int directory;
    int lock;
    struct share_page *page;
    uint64_t image;    // the last number given to a file
    uint64_t sequence; // the last one published, or the one to continue from
};

void share_writer_close(struct share_writer *writer)
{
    if (writer == NULL)
        return;
    if (writer->page != NULL)
        (void)munmap(writer->page, SHARE_PAGE_BYTES);
    if (writer->lock >= 0)
        (void)close(writer->lock);
    if (writer->directory >= 0)
        (void)close(writer->directory);
    heap_free(writer);
}

static enum status open_directory(struct share_writer *writer, const char *path)
{
    if (strlen(path) >= SHARE_PATH_BYTES)
        return STATUS_RANGE;
    if (mkdir(path, SHARE_DIRECTORY_MODE) != 0 && errno != EEXIST)
        return status_of_errno(errno);
    writer->directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (writer->directory < 0)
        return status_of_errno(errno);
    return share_directory_safe(writer->directory, true) ? STATUS_OK : STATUS_DENIED;
}

// The lock belongs to the open file, not to the process, so it also excludes a second writer within one
// process.
static enum status take_lock(struct share_writer *writer)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    writer->lock =
        openat(writer->directory, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, (mode_t)SHARE_FILE_MODE);
    if (writer->lock < 0)
        return status_of_errno(errno);
    if (fcntl(writer->lock, F_OFD_SETLK, &lock) == 0)
        return STATUS_OK;
    return errno == EAGAIN || errno == EACCES ? STATUS_IN_USE : status_of_errno(errno);
}

// Readers have this very file mapped: it may be made longer and repaired in place, but never shortened.
static enum status map_page(struct share_writer *writer)
{
    struct stat facts;
    enum status status = STATUS_OK;
    int fd = openat(writer->directory, "current", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
                    (mode_t)SHARE_FILE_MODE);
    if (fd < 0)
        return status_of_errno(errno);
    if (fstat(fd, &facts) != 0 ||
        (facts.st_size < SHARE_PAGE_BYTES && posix_fallocate(fd, 0, SHARE_PAGE_BYTES) != 0))
        status = errno == ENOSPC ? STATUS_NO_SPACE : STATUS_IO;
    if (status == STATUS_OK) {
        void *page = mmap(NULL, SHARE_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (page == MAP_FAILED)
            status = status_of_errno(errno);
        else
            writer->page = page;
    }
    (void)close(fd);
    return status;
}

static void remove_image(const struct share_writer *writer, uint64_t image)
{
    char name[SHARE_NAME_BYTES];
    share_image_name(image, name);
    (void)unlinkat(writer->directory, name, 0);
}

// Removes files of earlier writers that are not in use, and finds the highest number, so that none is given
// twice.
static enum status sweep(struct share_writer *writer, uint64_t in_force)
{
    int copy = openat(writer->directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = copy >= 0 ? fdopendir(copy) : NULL;
    if (directory == NULL) {
        enum status status = status_of_errno(errno);
        if (copy >= 0)
            (void)close(copy);
        return status;
    }
    struct dirent *entry;
    (void)unlinkat(writer->directory, TEMPORARY, 0);
    while ((entry = readdir(directory)) != NULL) {
        uint64_t image;
        if (!share_image_number(entry->d_name, &image))
            continue;
        if (image > writer->image)
            writer->image = image;
        if (image != in_force)
            remove_image(writer, image);
    }
    (void)closedir(directory);
    return STATUS_OK;
}

static enum status take_over(struct share_writer *writer)
{
    struct share_page *page = writer->page;
    uint64_t in_force = 0;
    if (atomic_load(&page->magic) == SHARE_MAGIC) {
        writer->sequence = atomic_load(&page->sequence);
        in_force = writer->sequence > 0 ? atomic_load(&page->places[writer->sequence % 2].image) : 0;
        writer->image = in_force;
        return sweep(writer, in_force);
    }
    // The page is new or damaged: it shows no image until one is published, under a sequence not used before.
    atomic_store(&page->sequence, 0);
    atomic_store_explicit(&page->magic, SHARE_MAGIC, memory_order_release);
    enum status status = sweep(writer, in_force);
    writer->sequence = writer->image;
    return status;
}

enum status share_writer_open(const char *directory, struct share_writer **out)
{
    struct share_writer *writer = heap_alloc(1, sizeof *writer);
    if (writer == NULL)
        return STATUS_NO_MEMORY;
    writer->directory = -1;
    writer->lock = -1;
    enum status status = open_directory(writer, directory);
    if (status == STATUS_OK)
        status = take_lock(writer);
    if (status == STATUS_OK)
        status = map_page(writer);
    if (status == STATUS_OK)
        status = take_over(writer);
    if (status != STATUS_OK) {
        share_writer_close(writer);
        return status;
    }
    *out = writer;
    return STATUS_OK;
}

static enum status write_all(int fd, struct slice bytes)
{
    while (bytes.len > 0) {
        ssize_t written = write(fd, bytes.data, bytes.len);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return errno == EDQUOT || errno == EFBIG ? STATUS_NO_SPACE : status_of_errno(errno);
        bytes.data += written;
        bytes.len -= (size_t)written;
    }
    return STATUS_OK;
}

static enum status write_image(struct share_writer *writer, uint64_t number, struct slice image)
{
    char name[SHARE_NAME_BYTES];
    share_image_name(number, name);
    (void)unlinkat(writer->directory, TEMPORARY, 0);
    int fd = openat(writer->directory, TEMPORARY, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
                    (mode_t)SHARE_FILE_MODE);
    if (fd < 0)
        return status_of_errno(errno);
    enum status status = write_all(fd, image);
    if (close(fd) != 0 && status == STATUS_OK)
        status = status_of_errno(errno);
    if (status == STATUS_OK && renameat(writer->directory, TEMPORARY, writer->directory, name) != 0)
        status = status_of_errno(errno);
    if (status != STATUS_OK)
        (void)unlinkat(writer->directory, TEMPORARY, 0);
    return status;
}

// Every store is a release: a reader that sees any part of this place also sees the sequence that had moved
// on from it.
static void put_in_force(struct share_writer *writer, uint64_t image, uint64_t len)
{
    struct share_page *page = writer->page;
    uint64_t sequence = ++writer->sequence;
    struct share_place *place = &page->places[sequence % 2];
    atomic_store_explicit(&place->image, image, memory_order_release);
    atomic_store_explicit(&place->len, len, memory_order_release);
    atomic_store_explicit(&page->sequence, sequence, memory_order_release);
}

enum status share_writer_publish(struct share_writer *writer, struct slice image)
{
    uint64_t number = writer->image + 1;
    enum status status = write_image(writer, number, image);
    if (status != STATUS_OK)
        return status;
    writer->image = number;
    put_in_force(writer, number, image.len);
    if (number > SHARE_IMAGES_KEPT)
        remove_image(writer, number - SHARE_IMAGES_KEPT);
    return STATUS_OK;
}
