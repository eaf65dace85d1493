// SPDX-License-Identifier: Apache-2.0
// share: what is published is read whole, whoever dies in between: a writer is killed at each of its system
// calls and at random moments; files are damaged and cut; a thread reads while another publishes.
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "flags/eval/evaluate.h"
#include "flags/share/share.h"
#include "folder.h"
#include "test.h"

enum { IMAGE_BYTES = 1 << 16, NODES = 2048 };

static char directory[FOLDER_PATH_BYTES];

struct image {
    _Alignas(FLAGS_IMAGE_ALIGN) char bytes[IMAGE_BYTES];
    size_t len;
};

// A set of `width` flags that all answer `value`, so that a mixture of two images shows.
static void make_image(struct image *image, unsigned value, unsigned width)
{
    static _Thread_local char json[IMAGE_BYTES];
    static _Thread_local struct flags_json nodes[NODES];
    struct flags_json_space space = {.nodes = nodes, .node_cap = NODES};
    struct text text = text_over(json, sizeof json);
    size_t problems;
    text_addf(&text, "{\"flags\":{");
    for (unsigned i = 0; i < width; i++)
        text_addf(&text, "%s\"f%u\":{\"state\":\"ENABLED\",\"variants\":{\"v\":%u},\"defaultVariant\":\"v\"}",
                  i > 0 ? "," : "", i, value);
    text_addf(&text, "}}");
    CHECK(flags_compile(text_slice(&text), &(struct flags_compile_options){0}, &space, image->bytes,
                        sizeof image->bytes, &image->len, NULL, 0, &problems) == STATUS_OK);
}

static unsigned value_of(const struct flags_image *set, const char *key)
{
    static _Thread_local char space[FLAGS_SCRATCH_DEFAULT];
    struct flags_result result;
    flags_evaluate(set, slice_of(key), FLAGS_INTEGER, &(struct flags_context){0},
                   (struct flags_scratch){space, sizeof space}, &result);
    CHECK(result.has_value);
    return (unsigned)result.number;
}

static enum status publish(struct share_writer *writer, unsigned value)
{
    static struct image image;
    make_image(&image, value, 1 + value % 7);
    return share_writer_publish(writer, (struct slice){image.bytes, image.len});
}

static enum status take(struct share_reader *reader, struct share_mapping *mapping)
{
    enum status status;
    do
        status = share_reader_take(reader, mapping);
    while (status == STATUS_AGAIN);
    return status;
}

static unsigned count_files(const char *prefix)
{
    unsigned count = 0;
    struct dirent *entry;
    DIR *open_directory = opendir(directory);
    assert_non_null(open_directory);
    while ((entry = readdir(open_directory)) != NULL)
        count += strncmp(entry->d_name, prefix, strlen(prefix)) == 0;
    (void)closedir(open_directory);
    return count;
}

static int set_up(void **state)
{
    (void)state;
    folder_make(directory);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    folder_remove(directory);
    return 0;
}

EACH_TEST(set_up, tear_down);

TEST(published_is_read)
{
    struct share_writer *writer;
    struct share_writer *second;
    struct share_reader *reader;
    struct share_mapping mapping;
    struct share_mapping next;
    assert_int_equal(share_reader_open(directory, &reader), STATUS_NOT_FOUND);
    assert_int_equal(share_writer_open(directory, &writer), STATUS_OK);
    assert_int_equal(share_writer_open(directory, &second), STATUS_IN_USE);
    assert_int_equal(share_reader_open(directory, &reader), STATUS_NOT_FOUND);
    assert_int_equal(publish(writer, 1), STATUS_OK);
    assert_int_equal(share_reader_open(directory, &reader), STATUS_OK);
    assert_true(share_reader_stale(reader));
    assert_int_equal(take(reader, &mapping), STATUS_OK);
    assert_false(share_reader_stale(reader));
    assert_int_equal(value_of(&mapping.set, "f0"), 1);
    for (unsigned value = 2; value < 20; value++)
        assert_int_equal(publish(writer, value), STATUS_OK);
    assert_int_equal(count_files("image"), SHARE_IMAGES_KEPT);
    assert_true(share_reader_stale(reader));
    assert_int_equal(take(reader, &next), STATUS_OK);
    assert_int_equal(value_of(&next.set, "f0"), 19);
    assert_int_equal(next.sequence, 19);
    // Its file is long gone, the old mapping is not.
    assert_int_equal(value_of(&mapping.set, "f0"), 1);
    assert_true(share_reader_written(reader));
    share_writer_close(writer);
    assert_false(share_reader_written(reader));
    assert_int_equal(share_writer_open(directory, &writer), STATUS_OK);
    assert_false(share_reader_stale(reader));
    assert_int_equal(publish(writer, 20), STATUS_OK);
    assert_true(share_reader_stale(reader));
    share_mapping_drop(&mapping);
    assert_int_equal(take(reader, &mapping), STATUS_OK);
    assert_int_equal(mapping.sequence, 20);
    share_mapping_drop(&mapping);
    share_mapping_drop(&next);
    share_reader_close(reader);
    share_writer_close(writer);
}

// A child that publishes twice, stopped at its n-th system call for good. False: it had fewer.
static bool publish_until_call(unsigned calls, unsigned value)
{
    int status;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct share_writer *writer;
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
            _exit(9);
        (void)raise(SIGSTOP);
        if (share_writer_open(directory, &writer) != STATUS_OK || publish(writer, value) != STATUS_OK ||
            publish(writer, value + 1) != STATUS_OK)
            _exit(8);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 9) {
        print_message("SKIPPED: no tracing here\n");
        return false;
    }
    for (unsigned i = 0; i < 2 * calls; i++) {
        assert_int_equal(ptrace(PTRACE_SYSCALL, child, NULL, NULL), 0);
        assert_int_equal(waitpid(child, &status, 0), child);
        if (WIFEXITED(status)) {
            assert_int_equal(WEXITSTATUS(status), 0);
            return false;
        }
    }
    (void)kill(child, SIGKILL);
    (void)waitpid(child, &status, 0);
    return true;
}

// Whatever the dead left: readers old and new see a whole set, and the next writer goes on.
TEST(writer_killed_at_each_call)
{
    struct share_writer *writer;
    struct share_reader *old;
    struct share_mapping mapping;
    unsigned value = 100;
    uint64_t sequence = 0;
    unsigned calls = 0;
    assert_int_equal(share_writer_open(directory, &writer), STATUS_OK);
    assert_int_equal(publish(writer, value), STATUS_OK);
    share_writer_close(writer);
    assert_int_equal(share_reader_open(directory, &old), STATUS_OK);
    for (bool more = true; more; calls++) {
        struct share_reader *reader;
        more = publish_until_call(calls, value + 1);
        assert_int_equal(share_reader_open(directory, &reader), STATUS_OK);
        assert_int_equal(take(reader, &mapping), STATUS_OK);
        unsigned now = value_of(&mapping.set, "f0");
        assert_in_range(now, value, value + 2);
        assert_true(mapping.sequence >= sequence);
        sequence = mapping.sequence;
        value = now;
        share_mapping_drop(&mapping);
        share_reader_close(reader);
        assert_int_equal(take(old, &mapping), STATUS_OK);
        assert_int_equal(value_of(&mapping.set, "f0"), now);
        share_mapping_drop(&mapping);
    }
    print_message("killed at each of %u system calls\n", calls);
    assert_int_equal(share_writer_open(directory, &writer), STATUS_OK);
    assert_int_equal(publish(writer, 7), STATUS_OK);
    assert_true(count_files("image") <= SHARE_IMAGES_KEPT);
    assert_int_equal(take(old, &mapping), STATUS_OK);
    assert_true(mapping.sequence > sequence);
    share_mapping_drop(&mapping);
    share_reader_close(old);
    share_writer_close(writer);
}

static void publish_for_ever(unsigned value)
{
    struct share_writer *writer;
    if (share_writer_open(directory, &writer) != STATUS_OK)
        _exit(1);
    for (;; value++)
        if (publish(writer, value) != STATUS_OK)
            _exit(2);
}

static uint64_t now_ns(void)
{
    struct timespec now;
    assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &now), 0);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

// What a reader has seen while writers come and die.
struct seen {
    struct share_reader *reader;
    uint64_t sequence;
    unsigned value, taken;
};

static void take_if_new(struct seen *seen)
{
    struct share_mapping mapping;
    char last[16];
    if (seen->reader == NULL && share_reader_open(directory, &seen->reader) != STATUS_OK)
        seen->reader = NULL;
    if (seen->reader == NULL || !share_reader_stale(seen->reader))
        return;
    enum status status = share_reader_take(seen->reader, &mapping);
    assert_true(status == STATUS_OK || status == STATUS_AGAIN);
    if (status != STATUS_OK)
        return;
    seen->value = value_of(&mapping.set, "f0");
    (void)snprintf(last, sizeof last, "f%u", seen->value % 7);
    assert_int_equal(value_of(&mapping.set, last), seen->value);
    assert_true(mapping.sequence > seen->sequence);
    seen->sequence = mapping.sequence;
    share_mapping_drop(&mapping);
    seen->taken++;
}

// Each writer is killed at another moment. Every other one is given the time for two of its sets to be taken,
// however long that is on a machine that has others to serve.
TEST(writer_killed_at_random)
{
    enum { ROUNDS = 25, PATIENCE_S = 30 };
    struct seen seen = {0};
    for (unsigned round = 0; round < ROUNDS; round++) {
        int status;
        unsigned enough = seen.taken + (round % 2 == 0 ? 2 : 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0)
            publish_for_ever(seen.value + 1);
        uint64_t begin_ns = now_ns();
        while (seen.taken < enough && now_ns() - begin_ns < PATIENCE_S * 1000000000ULL)
            take_if_new(&seen);
        begin_ns = now_ns();
        while (now_ns() - begin_ns < 1000000 + round * 797000)
            take_if_new(&seen);
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        assert_true(seen.taken >= enough);
    }
    print_message("%u sets taken, %llu published, %d writers killed\n", seen.taken,
                  (unsigned long long)seen.sequence, ROUNDS);
    share_reader_close(seen.reader);
}

static void damage(uint64_t image, off_t at, off_t cut)
{
    char path[400];
    (void)snprintf(path, sizeof path, "%s/image-%016llx", directory, (unsigned long long)image);
    if (cut >= 0) {
        assert_int_equal(truncate(path, cut), 0);
        return;
    }
    int fd = open(path, O_RDWR | O_CLOEXEC);
    char byte;
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte = (char)(byte ^ 4);
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    assert_int_equal(close(fd), 0);
}

TEST(damage_is_refused)
{
    struct share_writer *writer;
    struct share_reader *reader;
    struct share_mapping kept;
    struct share_mapping mapping;
    char path[400];
    assert_int_equal(share_writer_open(directory, &writer), STATUS_OK);
    assert_int_equal(publish(writer, 1), STATUS_OK);
    assert_int_equal(share_reader_open(directory, &reader), STATUS_OK);
    assert_int_equal(take(reader, &kept), STATUS_OK);
    assert_int_equal(publish(writer, 2), STATUS_OK);
    damage(2, 100, -1);
    assert_int_equal(share_reader_take(reader, &mapping), STATUS_CORRUPT);
    assert_false(share_reader_stale(reader)); // refused once, not fifty times a second
    assert_int_equal(publish(writer, 3), STATUS_OK);
    damage(3, 0, 10); // shorter than said
    assert_int_equal(share_reader_take(reader, &mapping), STATUS_CORRUPT);
    damage(3, 0, 0);
    assert_int_equal(share_reader_take(reader, &mapping), STATUS_CORRUPT);
    damage(3, 0, 1 << 20); // longer
    assert_int_equal(share_reader_take(reader, &mapping), STATUS_CORRUPT);
    (void)snprintf(path, sizeof path, "%s/image-%016x", directory, 3);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(share_reader_take(reader, &mapping), STATUS_CORRUPT);
    assert_int_equal(value_of(&kept.set, "f0"), 1);
    assert_int_equal(publish(writer, 4), STATUS_OK);
    assert_int_equal(share_reader_take(reader, &mapping), STATUS_OK);
    assert_int_equal(value_of(&mapping.set, "f0"), 4);
    share_mapping_drop(&mapping);
    share_mapping_drop(&kept);
    share_reader_close(reader);
    share_writer_close(writer);
}

TEST(damaged_page)
{
    struct share_writer *writer;
    struct share_reader *reader;
    struct share_reader *late;
    struct share_mapping mapping;
    char path[400];
    char other[500];
    uint64_t magic = 0x1234;
    (void)snprintf(path, sizeof path, "%s/current", directory);
    assert_int_equal(share_writer_open(directory, &writer), STATUS_OK);
    for (unsigned value = 1; value <= 5; value++)
        assert_int_equal(publish(writer, value), STATUS_OK);
    assert_int_equal(share_reader_open(directory, &reader), STATUS_OK);
    assert_int_equal(take(reader, &mapping), STATUS_OK);
    share_mapping_drop(&mapping);
    share_writer_close(writer);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(pwrite(fd, &magic, sizeof magic, 0), sizeof magic);
    assert_int_equal(close(fd), 0);
    assert_int_equal(share_reader_open(directory, &late), STATUS_CORRUPT);
    assert_int_equal(share_reader_take(reader, &mapping), STATUS_CORRUPT);
    // The next writer mends it in place, and the old reader sees the news.
    assert_int_equal(share_writer_open(directory, &writer), STATUS_OK);
    assert_int_equal(publish(writer, 6), STATUS_OK);
    assert_true(share_reader_stale(reader));
    assert_int_equal(take(reader, &mapping), STATUS_OK);
    assert_int_equal(value_of(&mapping.set, "f0"), 6);
    assert_true(mapping.sequence > 5);
    share_mapping_drop(&mapping);
    assert_false(share_reader_replaced(reader, directory));
    (void)snprintf(other, sizeof other, "%s.old", path);
    assert_int_equal(rename(path, other), 0);
    share_writer_close(writer);
    assert_int_equal(share_writer_open(directory, &writer), STATUS_OK);
    assert_true(share_reader_replaced(reader, directory));
    share_reader_close(reader);
    share_writer_close(writer);
}

TEST(no_space)
{
    struct share_writer *writer;
    struct share_reader *reader;
    struct share_mapping mapping;
    struct rlimit before;
    struct rlimit small;
    static struct image image;
    assert_int_equal(share_writer_open(directory, &writer), STATUS_OK);
    assert_int_equal(publish(writer, 1), STATUS_OK);
    assert_int_equal(share_reader_open(directory, &reader), STATUS_OK);
    assert_int_equal(take(reader, &mapping), STATUS_OK);
    share_mapping_drop(&mapping);
    make_image(&image, 2, 100);
    assert_true(image.len > 4096);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 4096;
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    enum status status = share_writer_publish(writer, (struct slice){image.bytes, image.len});
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(status, STATUS_NO_SPACE);
    assert_false(share_reader_stale(reader));
    assert_int_equal(count_files("image"), 1);
    assert_int_equal(share_writer_publish(writer, (struct slice){image.bytes, image.len}), STATUS_OK);
    assert_int_equal(take(reader, &mapping), STATUS_OK);
    assert_int_equal(value_of(&mapping.set, "f99"), 2);
    share_mapping_drop(&mapping);
    share_reader_close(reader);
    share_writer_close(writer);
}

static void *read_along(void *context)
{
    _Atomic int *done = context;
    struct share_reader *reader;
    struct share_mapping mapping;
    CHECK(share_reader_open(directory, &reader) == STATUS_OK);
    while (!*done) {
        enum status status = share_reader_take(reader, &mapping);
        CHECK(status == STATUS_OK || status == STATUS_AGAIN);
        if (status != STATUS_OK)
            continue;
        unsigned value = value_of(&mapping.set, "f0");
        char last[16];
        (void)snprintf(last, sizeof last, "f%u", value % 7);
        CHECK(value_of(&mapping.set, last) == value);
        share_mapping_drop(&mapping);
    }
    share_reader_close(reader);
    return NULL;
}

TEST(threads)
{
    struct share_writer *writer;
    pthread_t threads[2];
    _Atomic int done = 0;
    assert_int_equal(share_writer_open(directory, &writer), STATUS_OK);
    assert_int_equal(publish(writer, 1), STATUS_OK);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, read_along, &done), 0);
    for (unsigned value = 2; value < 1000; value++)
        assert_int_equal(publish(writer, value), STATUS_OK);
    done = 1;
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    share_writer_close(writer);
}

TEST(bad_directories)
{
    struct share_writer *writer;
    struct share_reader *reader;
    char deep[SHARE_PATH_BYTES + 10];
    memset(deep, 'a', sizeof deep - 1);
    deep[0] = '/';
    deep[sizeof deep - 1] = '\0';
    assert_int_equal(share_writer_open(deep, &writer), STATUS_RANGE);
    assert_int_not_equal(share_writer_open("/proc/nothing/here", &writer), STATUS_OK);
    assert_int_not_equal(share_writer_open("/dev/null", &writer), STATUS_OK);
    assert_int_equal(share_reader_open("/tmp/there/is/nothing", &reader), STATUS_NOT_FOUND);
    assert_int_not_equal(share_reader_open("/dev/null", &reader), STATUS_OK);
}

// In a directory that anybody may write, anybody could put what all readers would believe.
TEST(directory_of_anybody)
{
    char path[FOLDER_PATH_BYTES];
    struct share_writer *writer;
    struct share_reader *reader;
    folder_make(path);
    assert_int_equal(chmod(path, 0777), 0);
    assert_int_equal(share_writer_open(path, &writer), STATUS_DENIED);
    assert_int_equal(chmod(path, 0755), 0);
    assert_int_equal(share_writer_open(path, &writer), STATUS_OK);
    assert_int_equal(chmod(path, 01777), 0);
    assert_int_equal(share_reader_open(path, &reader), STATUS_DENIED);
    assert_int_equal(chmod(path, 0755), 0);
    if (geteuid() == 0) {
        share_writer_close(writer);
        assert_int_equal(chown(path, 12345, 12345), 0);
        assert_int_equal(share_writer_open(path, &writer), STATUS_DENIED);
        assert_int_equal(chown(path, 0, 0), 0);
        assert_int_equal(share_writer_open(path, &writer), STATUS_OK);
    }
    share_writer_close(writer);
    folder_remove(path);
}
