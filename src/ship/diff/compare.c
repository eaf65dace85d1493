// SPDX-License-Identifier: Apache-2.0
// Two answers: status, headers, and the body by the reader of its media type.
#include <inttypes.h>

#include "base/utf8.h"
#include "ship/diff/diff_private.h"

static const struct slice NOTHING = {"", 0};

static bool matters(const struct diff_recipe *recipe, struct slice name)
{
    static const char *const LEFT_OUT[] = {"connection", "keep-alive",    "proxy-connection",  "te",
                                           "trailer",    "upgrade",       "transfer-encoding", "date",
                                           "age",        "content-length"};
    for (uint32_t i = 0; i < recipe->header_count; i++)
        if (slice_equal_nocase(recipe->headers[i], name))
            return true;
    for (size_t i = 0; recipe->headers == NULL && i < ARRAY_LEN(LEFT_OUT); i++)
        if (slice_equal_nocase(slice_of(LEFT_OUT[i]), name))
            return false;
    return recipe->headers == NULL;
}

static uint32_t headers_read(const struct diff_answer *answer)
{
    return answer->header_count < DIFF_HEADERS_MAX ? answer->header_count : DIFF_HEADERS_MAX;
}

// The next field of that name from *at on; NULL at the end.
static const struct diff_header *next_header(const struct diff_answer *answer, struct slice name,
                                             uint32_t *at)
{
    while (*at < headers_read(answer)) {
        const struct diff_header *header = &answer->headers[(*at)++];
        if (slice_equal_nocase(header->name, name))
            return header;
    }
    return NULL;
}

static bool has_header(const struct diff_answer *answer, struct slice name, uint32_t before)
{
    for (uint32_t i = 0; i < before; i++)
        if (slice_equal_nocase(answer->headers[i].name, name))
            return true;
    return false;
}

// All fields of one name, the k-th of one answer with the k-th of the other.
static void compare_header(const struct diff_sink *sink, const struct diff_answer *first,
                           const struct diff_answer *second, struct slice name)
{
    char storage[DIFF_PATH_BYTES];
    struct text path = text_over(storage, sizeof storage);
    uint32_t at_first = 0, at_second = 0;
    text_add(&path, SLICE("header."));
    for (size_t i = 0; i < name.len; i++)
        text_add_char(&path, slice_lower_char(name.data[i]));
    for (;;) {
        const struct diff_header *a = next_header(first, name, &at_first);
        const struct diff_header *b = next_header(second, name, &at_second);
        if (a == NULL && b == NULL)
            return;
        if (a == NULL || b == NULL || !slice_equal(a->value, b->value))
            diff_sink_add(sink, text_slice(&path),
                          a == NULL   ? DIFF_ADDED
                          : b == NULL ? DIFF_MISSING
                                      : DIFF_VALUE,
                          a != NULL ? a->value : NOTHING, b != NULL ? b->value : NOTHING);
    }
}

static void compare_headers(const struct diff_sink *sink, const struct diff_answer *first,
                            const struct diff_answer *second)
{
    if (first->header_count > DIFF_HEADERS_MAX || second->header_count > DIFF_HEADERS_MAX)
        sink->comparison->notes |= DIFF_NOTE_HEADERS;
    for (uint32_t i = 0; i < headers_read(first); i++) {
        struct slice name = first->headers[i].name;
        if (matters(sink->recipe, name) && !has_header(first, name, i))
            compare_header(sink, first, second, name);
    }
    for (uint32_t i = 0; i < headers_read(second); i++) {
        struct slice name = second->headers[i].name;
        if (matters(sink->recipe, name) && !has_header(first, name, headers_read(first)) &&
            !has_header(second, name, i))
            compare_header(sink, first, second, name);
    }
}

static void compare_status(const struct diff_sink *sink, uint16_t first, uint16_t second)
{
    char a[8], b[8];
    struct text first_text = text_over(a, sizeof a), second_text = text_over(b, sizeof b);
    text_addf(&first_text, "%u", (unsigned)first);
    text_addf(&second_text, "%u", (unsigned)second);
    if (first != second)
        diff_sink_add(sink, SLICE("status"), DIFF_STATUS, text_slice(&first_text), text_slice(&second_text));
}

static bool ends_with(struct slice text, struct slice end)
{
    return text.len >= end.len &&
           slice_equal_nocase((struct slice){text.data + text.len - end.len, end.len}, end);
}

static bool begins_with(struct slice text, struct slice begin)
{
    return text.len >= begin.len && slice_equal_nocase((struct slice){text.data, begin.len}, begin);
}

enum diff_reader diff_reader_of(struct slice media_type)
{
    const char *end = media_type.len > 0 ? memchr(media_type.data, ';', media_type.len) : NULL;
    struct slice type = {media_type.data, end != NULL ? (size_t)(end - media_type.data) : media_type.len};
    while (type.len > 0 && (type.data[type.len - 1] == ' ' || type.data[type.len - 1] == '\t'))
        type.len--;
    if (begins_with(type, SLICE("application/grpc")))
        return ends_with(type, SLICE("/grpc")) || ends_with(type, SLICE("+proto")) ||
                       ends_with(type, SLICE("/grpc-web"))
                   ? DIFF_READER_GRPC
                   : DIFF_READER_BYTES;
    if (ends_with(type, SLICE("/json")) || ends_with(type, SLICE("+json")))
        return DIFF_READER_JSON;
    static const char *const TEXTS[] = {"/xml", "+xml", "/javascript", "/x-ndjson", "/yaml"};
    for (size_t i = 0; i < ARRAY_LEN(TEXTS); i++)
        if (ends_with(type, slice_of(TEXTS[i])))
            return DIFF_READER_TEXT;
    return begins_with(type, SLICE("text/")) ? DIFF_READER_TEXT : DIFF_READER_BYTES;
}

static enum diff_reader reader_of(const struct diff_answer *answer)
{
    uint32_t at = 0;
    const struct diff_header *header = next_header(answer, SLICE("content-type"), &at);
    return header != NULL ? diff_reader_of(header->value) : DIFF_READER_BYTES;
}

static void compare_digests(const struct diff_sink *sink, const uint64_t bytes[2], const uint64_t digests[2])
{
    char words[2][64];
    struct text texts[2];
    for (int i = 0; i < 2; i++) {
        texts[i] = text_over(words[i], sizeof words[i]);
        text_addf(&texts[i], "%" PRIu64 " bytes, digest %016" PRIx64, bytes[i], digests[i]);
    }
    sink->comparison->reader = DIFF_READER_BYTES;
    diff_sink_add(sink, SLICE("body"), DIFF_BYTES, text_slice(&texts[0]), text_slice(&texts[1]));
}

static void compare_bytes(const struct diff_sink *sink, struct slice first, struct slice second)
{
    struct siphash_key key = sink->recipe->key;
    compare_digests(
        sink, (const uint64_t[]){first.len, second.len},
        (const uint64_t[]){siphash(key, first.data, first.len), siphash(key, second.data, second.len)});
}

static const char *cut_words(enum diff_cut cut)
{
    static const char *const WORDS[] = {"whole", "cut at the limit", "broken off", "cut by the deadline"};
    CHECK((unsigned)cut < ARRAY_LEN(WORDS));
    return WORDS[cut];
}

// Half of the space for both trees' nodes would waste what one does not need: the second gets the rest.
static struct diff_tree tree_begin(const struct diff_sink *sink, struct slice body, struct diff_space space,
                                   uint32_t used)
{
    size_t most = space.bytes / DIFF_NODE_BYTES;
    uint32_t nodes = most < UINT32_MAX / 4 ? (uint32_t)most : UINT32_MAX / 4;
    struct diff_node *all = space.memory;
    uint32_t places = 2;
    while (places * 2 <= nodes * 4)
        places *= 2;
    return (struct diff_tree){
        .source = body,
        .nodes = all + used,
        .cap = nodes - used,
        .slots = (uint32_t *)(all + nodes),
        .slot_count = places,
        .key = sink->recipe->key,
        .mixer = {siphash(sink->recipe->key, "0", 1), siphash(sink->recipe->key, "1", 1)},
        .spelling = sink->recipe->spelling,
        .reader = sink->comparison->reader,
    };
}

static bool read_tree(const struct diff_sink *sink, struct diff_tree *tree, bool second)
{
    struct diff_comparison *comparison = sink->comparison;
    enum status status = tree->reader == DIFF_READER_JSON   ? diff_read_json(tree)
                         : tree->reader == DIFF_READER_GRPC ? diff_read_grpc(tree)
                                                            : diff_read_text(tree);
    comparison->notes |= tree->notes;
    if (status == STATUS_FULL)
        comparison->notes |= DIFF_NOTE_TOO_LARGE;
    if (status == STATUS_RANGE)
        comparison->notes |= DIFF_NOTE_TOO_DEEP;
    if (status != STATUS_INVALID)
        return status == STATUS_OK;
    comparison->notes |= DIFF_NOTE_UNREADABLE;
    comparison->fault.what = tree->fault;
    comparison->fault.at = tree->fault_at;
    comparison->fault.second = second;
    return false;
}

static void compare_values(const struct diff_sink *sink, struct slice first, struct slice second,
                           struct diff_space space)
{
    struct diff_tree a = tree_begin(sink, first, space, 0);
    bool read = read_tree(sink, &a, false);
    struct diff_tree b = tree_begin(sink, second, space, a.count);
    if (read && read_tree(sink, &b, true))
        diff_walk(&a, &b, sink);
    else
        compare_bytes(sink, first, second);
}

static void compare_body(const struct diff_sink *sink, const struct diff_answer *first,
                         const struct diff_answer *second, struct diff_space space)
{
    struct diff_comparison *comparison = sink->comparison;
    size_t most = sink->recipe->body_max > 0 ? sink->recipe->body_max : UINT32_MAX;
    if (first->cut != second->cut)
        diff_sink_add(sink, SLICE("body"), DIFF_CUT, slice_of(cut_words(first->cut)),
                      slice_of(cut_words(second->cut)));
    bool cut = first->cut != DIFF_WHOLE || second->cut != DIFF_WHOLE;
    if (cut)
        comparison->notes |= DIFF_NOTE_CUT;
    if (first->cut == DIFF_CUT_LIMIT && second->cut == DIFF_CUT_LIMIT) {
        if (first->bytes != second->bytes || first->digest != second->digest)
            compare_digests(sink, (const uint64_t[]){first->bytes, second->bytes},
                            (const uint64_t[]){first->digest, second->digest});
        return;
    }
    if (slice_equal(first->body, second->body))
        return;
    comparison->reader = reader_of(first);
    if (first->body.len == 0 || second->body.len == 0) {
        diff_sink_add(sink, SLICE("body"), first->body.len == 0 ? DIFF_ADDED : DIFF_MISSING, first->body,
                      second->body);
        return;
    }
    bool other_media = comparison->reader != reader_of(second);
    bool large = first->body.len > most || second->body.len > most;
    comparison->notes |= (other_media ? DIFF_NOTE_MEDIA : 0) | (large ? DIFF_NOTE_TOO_LARGE : 0);
    if (cut || other_media || large || comparison->reader == DIFF_READER_BYTES)
        compare_bytes(sink, first->body, second->body);
    else
        compare_values(sink, first->body, second->body, space);
}

bool diff_compare(const struct diff_recipe *recipe, const struct diff_answer *first,
                  const struct diff_answer *second, struct diff_space space,
                  struct diff_comparison *comparison)
{
    CHECK((uintptr_t)space.memory % _Alignof(struct diff_node) == 0);
    memset(comparison, 0, offsetof(struct diff_comparison, findings));
    struct diff_sink sink = {recipe, comparison};
    compare_status(&sink, first->status, second->status);
    compare_headers(&sink, first, second);
    compare_body(&sink, first, second, space);
    return comparison->count == 0 && comparison->beyond == 0;
}
