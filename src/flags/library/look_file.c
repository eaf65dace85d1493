// SPDX-License-Identifier: Apache-2.0
// A new set from a flagd file: each tick looks at the file's time, size and inode. File times are coarse, so
// a file that changed a moment ago is read once more and its bytes are compared.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/heap.h"
#include "flags/library/library_private.h"

enum { NODES_FIRST = 1 << 12, IMAGE_FIRST = 1 << 14, IMAGE_PER_SOURCE = 3 };
#define FRESH_NS INT64_C(100000000)

int64_t library_wall_ns(void)
{
    struct timespec now;
    CHECK(clock_gettime(CLOCK_REALTIME, &now) == 0);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void library_file_deinit(struct library_file *file)
{
    heap_free(file->space.nodes);
    heap_free(file->space.chars);
    union {
        const char *text;
        void *block;
    } source = {file->source.data};
    heap_free(source.block);
    *file = (struct library_file){0};
}

static enum status read_whole(int fd, size_t size, struct slice *out)
{
    char *data = heap_alloc(size + 1, 1);
    size_t len = 0;
    if (data == NULL)
        return STATUS_NO_MEMORY;
    while (len < size) {
        ssize_t got = read(fd, data + len, size - len);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            enum status status = status_of_errno(errno);
            heap_free(data);
            return status;
        }
        if (got == 0)
            break;
        len += (size_t)got;
    }
    *out = (struct slice){data, len};
    return STATUS_OK;
}

static bool same_file(struct library_file *file, const struct stat *facts)
{
    int64_t changed_ns = (int64_t)facts->st_mtim.tv_sec * 1000000000 + facts->st_mtim.tv_nsec;
    bool same = file->looked && file->device == facts->st_dev && file->inode == facts->st_ino &&
                file->size == facts->st_size && file->changed_ns == changed_ns &&
                library_wall_ns() - changed_ns > FRESH_NS;
    file->device = facts->st_dev;
    file->inode = facts->st_ino;
    file->size = facts->st_size;
    file->changed_ns = changed_ns;
    return same;
}

// Reads the file if it changed. STATUS_AGAIN: it holds nothing new.
static enum status read_news(struct library_file *file, const char *path, struct slice *source)
{
    struct stat facts;
    if (stat(path, &facts) != 0)
        return status_of_errno(errno);
    if (!S_ISREG(facts.st_mode))
        return STATUS_INVALID;
    if (same_file(file, &facts))
        return STATUS_AGAIN;
    if (facts.st_size > LIBRARY_SOURCE_BYTES_MAX)
        return STATUS_RANGE;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return status_of_errno(errno);
    enum status status = read_whole(fd, (size_t)facts.st_size, source);
    (void)close(fd);
    return status;
}

static enum status grow(struct library_file *file)
{
    // No text has more nodes, or more unescaped bytes, than it has bytes.
    uint64_t nodes = file->space.node_cap == 0 ? NODES_FIRST : (uint64_t)file->space.node_cap * 4;
    if (file->space.node_cap > file->source.len + NODES_FIRST)
        return STATUS_NO_MEMORY;
    heap_free(file->space.nodes);
    heap_free(file->space.chars);
    file->space = (struct flags_json_space){
        .nodes = heap_alloc(nodes, sizeof(struct flags_json)),
        .chars = heap_alloc(file->source.len + 1, 1),
        .char_cap = file->source.len + 1,
    };
    if (file->space.nodes == NULL || file->space.chars == NULL)
        return STATUS_NO_MEMORY;
    file->space.node_cap = (uint32_t)nodes;
    return STATUS_OK;
}

static void say_fault(const char *path, const struct flags_finding *fault,
                      char problem[SLUICE_FLAGS_PROBLEM_BYTES])
{
    struct text text = text_over(problem, SLUICE_FLAGS_PROBLEM_BYTES);
    text_addf(&text, "%.300s:%u:%u: ", path, fault->line, fault->column);
    if (fault->key.len > 0)
        text_addf(&text, "flag '%.*s': ", (int)(fault->key.len < 100 ? fault->key.len : 100),
                  fault->key.data);
    text_addf(&text, "%s", fault->message);
    if (fault->subject.len > 0)
        text_addf(&text, ": '%.*s'", (int)(fault->subject.len < 60 ? fault->subject.len : 60),
                  fault->subject.data);
}

static const struct flags_finding *first_error(const struct flags_finding *faults, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (faults[i].severity == FLAGS_ERROR)
            return &faults[i];
    return NULL;
}

// Compiles with an image and scratch that grow until they suffice.
static enum status compile(struct library_file *file, const char *path, struct library_set *set,
                           char problem[SLUICE_FLAGS_PROBLEM_BYTES])
{
    static const struct flags_compile_options OPTIONS = {0};
    struct flags_finding faults[8];
    size_t cap = IMAGE_FIRST + IMAGE_PER_SOURCE * file->source.len;
    enum status status = grow(file);
    while (status == STATUS_OK) {
        size_t len;
        size_t count = 0;
        void *image = heap_alloc(cap, 1);
        if (image == NULL)
            return STATUS_NO_MEMORY;
        status = flags_compile(file->source, &OPTIONS, &file->space, image, cap, &len, faults, 8, &count);
        if (status == STATUS_OK) {
            void *cut = heap_resize(image, len);
            set->image = cut != NULL ? cut : image;
            return flags_image_open(set->image, len, &set->set);
        }
        heap_free(image);
        const struct flags_finding *fault = first_error(faults, count < 8 ? count : 8);
        if (status == STATUS_INVALID && fault != NULL)
            say_fault(path, fault, problem);
        if (status == STATUS_NO_MEMORY)
            status = grow(file);
        else if (status == STATUS_FULL && cap <= UINT32_MAX) {
            cap *= 2;
            status = STATUS_OK;
        }
    }
    return status;
}

enum status library_look_file(struct sluice_flags_provider *provider, struct library_set **out,
                              char problem[SLUICE_FLAGS_PROBLEM_BYTES])
{
    struct library_file *file = &provider->file;
    struct slice source = {NULL, 0};
    enum status status = read_news(file, provider->path, &source);
    if (status == STATUS_AGAIN)
        return status;
    bool known = status == STATUS_OK && file->looked && slice_equal(source, file->source);
    struct library_file last = *file;
    last.space = (struct flags_json_space){0};
    last.source = known ? source : file->source;
    if (!known)
        file->source = source;
    file->looked = status == STATUS_OK;
    library_file_deinit(&last);
    if (known)
        return STATUS_AGAIN;
    struct library_set *set = NULL;
    if (status == STATUS_OK && (set = heap_alloc(1, sizeof *set)) == NULL)
        status = STATUS_NO_MEMORY;
    if (status == STATUS_OK)
        status = compile(file, provider->path, set, problem);
    heap_free(file->space.nodes);
    heap_free(file->space.chars);
    file->space = (struct flags_json_space){0};
    if (status == STATUS_OK) {
        *out = set;
        return status;
    }
    if (set != NULL)
        heap_free(set->image);
    heap_free(set);
    if (problem[0] == '\0')
        (void)snprintf(problem, SLUICE_FLAGS_PROBLEM_BYTES, "%.300s: cannot be read or compiled (%s)",
                       provider->path, status_name(status));
    return status;
}
