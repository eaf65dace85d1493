// SPDX-License-Identifier: Apache-2.0
// Two bodies of any bytes, split at the first 0x1e, by each reader: each is equal to itself, the comparison
// says the same the other way round, and what is shown is UTF-8. In another mode: tables of noise from any
// bytes.
#include <stdint.h>

#include "base/check.h"
#include "base/utf8.h"
#include "ship/diff/noise.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MODE_NOISE = 1, MODE_SPELLING = 2, MODE_SMALL = 4, SPACE_BYTES = 1 << 22, SEPARATOR = 0x1e };

static _Alignas(8) char memory[SPACE_BYTES];
static struct diff_comparison found, mirrored, noise_found;

static void compare(const struct diff_recipe *recipe, const char *type, struct slice first,
                    struct slice second, size_t bytes, struct diff_comparison *comparison)
{
    struct diff_header header = {SLICE("content-type"), slice_of(type)};
    struct diff_answer a = {.status = 200, .headers = &header, .header_count = 1, .body = first}, b = a;
    b.body = second;
    bool same = diff_compare(recipe, &a, &b, (struct diff_space){memory, bytes}, comparison);
    CHECK(same == (comparison->count == 0 && comparison->beyond == 0) &&
          comparison->count <= DIFF_FINDINGS_MAX);
}

static uint64_t occurrences(const struct diff_comparison *comparison, enum diff_kind kind)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < comparison->count; i++)
        if (comparison->findings[i].kind == kind)
            count += comparison->findings[i].count;
    return count;
}

static void check_shown(const struct diff_comparison *comparison)
{
    char words[DIFF_WORDS_BYTES];
    for (uint32_t i = 0; i < comparison->count; i++) {
        const struct diff_finding *finding = &comparison->findings[i];
        diff_finding_words(finding, words);
        CHECK(finding->count > 0 && utf8_valid(slice_of(finding->first)) &&
              utf8_valid(slice_of(finding->second)));
        CHECK(utf8_valid(slice_of(finding->place)) && finding->path[0] != '\0');
    }
}

static void check_mirrored(void)
{
    CHECK(found.beyond == mirrored.beyond);
    if (found.beyond > 0)
        return;
    for (enum diff_kind kind = 0; kind < DIFF_KINDS; kind++) {
        enum diff_kind reverse = kind == DIFF_ADDED ? DIFF_MISSING : kind == DIFF_MISSING ? DIFF_ADDED : kind;
        CHECK(occurrences(&found, kind) == occurrences(&mirrored, reverse));
    }
}

static void compare_bodies(uint8_t mode, struct slice first, struct slice second)
{
    static const char *const TYPES[] = {"application/json", "text/html", "application/grpc", "image/png"};
    struct diff_recipe recipe = {.key = {7, 9}, .spelling = (mode & MODE_SPELLING) != 0};
    size_t bytes = (mode & MODE_SMALL) != 0 ? 20 * (size_t)DIFF_NODE_BYTES : sizeof memory;
    for (size_t i = 0; i < ARRAY_LEN(TYPES); i++) {
        compare(&recipe, TYPES[i], first, first, bytes, &found);
        CHECK(found.count == 0 && found.notes == 0);
        compare(&recipe, TYPES[i], first, second, bytes, &found);
        check_shown(&found);
        compare(&recipe, TYPES[i], second, first, bytes, &mirrored);
        check_mirrored();
    }
}

static void read_noise(struct slice bytes, const struct diff_comparison *comparison)
{
    static struct diff_noise noise, again;
    static struct diff_judgement judged[DIFF_ROWS_MAX];
    static uint8_t written[DIFF_NOISE_BYTES];
    struct wire_reader reader = {.data = (const uint8_t *)bytes.data, .len = bytes.len};
    if (diff_noise_get(&reader, &noise) != STATUS_OK)
        return;
    if (noise.row_count < DIFF_ROWS_MAX - DIFF_KINDS && noise.rank_count < UINT32_MAX)
        diff_noise_add(&noise, comparison, NULL);
    uint32_t count = diff_noise_judge(&noise, 0.01, 0.05, judged);
    char words[DIFF_NOISE_WORDS_BYTES];
    for (uint32_t i = 0; i < count; i++)
        diff_noise_words(&noise, &judged[i], words);
    struct wire_writer writer = {.data = written, .cap = sizeof written};
    diff_noise_put(&noise, &writer);
    CHECK(!writer.full);
    reader = (struct wire_reader){.data = written, .len = writer.len};
    CHECK(diff_noise_get(&reader, &again) == STATUS_OK && wire_done(&reader) && again.row_count == count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > 1 << 16)
        return 0;
    struct slice rest = {(const char *)data + 1, size - 1};
    const char *end = rest.len > 0 ? memchr(rest.data, SEPARATOR, rest.len) : NULL;
    struct slice first = {rest.data, end != NULL ? (size_t)(end - rest.data) : rest.len};
    struct slice second =
        end != NULL ? (struct slice){end + 1, rest.len - first.len - 1} : SLICE("[1,{\"a\":2}]");
    if ((data[0] & MODE_NOISE) == 0) {
        compare_bodies(data[0], first, second);
        return 0;
    }
    struct diff_recipe recipe = {.key = {7, 9}};
    compare(&recipe, "text/json", SLICE("[{\"id\":1,\"v\":2}]"), SLICE("[{\"id\":1,\"w\":2}]"), sizeof memory,
            &noise_found);
    read_noise(rest, &noise_found);
    return 0;
}
