// SPDX-License-Identifier: Apache-2.0
// The rows of the table, and how many paths become one: when more names differ below one path than a program
// has fields, they are keys of a map.
#include "base/utf8.h"
#include "ship/diff/noise_private.h"

enum { OWN_ROWS_MAX = DIFF_ROWS_MAX - DIFF_KINDS };

// For lookup only: a path is compared after its hash.
static const struct siphash_key KEY = {0, 0};

static uint64_t hash_of(struct slice path, enum diff_kind kind)
{
    return siphash((struct siphash_key){KEY.k0, kind + 1}, path.data, path.len);
}

static struct diff_prefix *find_prefix(struct diff_noise *noise, uint64_t hash)
{
    for (uint32_t i = 0; i < noise->prefix_count; i++)
        if (noise->prefixes[i].hash == hash)
            return &noise->prefixes[i];
    return NULL;
}

static struct diff_prefix *add_prefix(struct diff_noise *noise, uint64_t hash)
{
    if (noise->prefix_count == DIFF_PREFIXES_MAX)
        return NULL;
    noise->prefixes[noise->prefix_count] = (struct diff_prefix){.hash = hash};
    return &noise->prefixes[noise->prefix_count++];
}

// Takes the next segment off a path: "body", ".name", "[\"name\"]", "[]", "{*}".
static struct slice next_segment(struct slice *rest)
{
    size_t len = 1;
    bool quoted = rest->len > 1 && rest->data[0] == '[' && rest->data[1] == '"';
    if (quoted)
        for (len = 2; len < rest->len && rest->data[len] != '"'; len++)
            len += rest->data[len] == '\\';
    while (len < rest->len && (quoted ? rest->data[len - 1] != ']' || rest->data[len - 2] != '"'
                                      : memchr(".[{", rest->data[len], 3) == NULL))
        len++;
    len = len < rest->len ? len : rest->len;
    struct slice segment = {rest->data, len};
    *rest = (struct slice){rest->data + len, rest->len - len};
    return segment;
}

static bool is_name(struct slice segment)
{
    return segment.data[0] == '.' || (segment.len > 1 && segment.data[0] == '[' && segment.data[1] == '"');
}

static bool is_folded(const struct diff_noise *noise, uint64_t hash)
{
    for (uint32_t i = 0; i < noise->folded_count; i++)
        if (noise->folded[i] == hash)
            return true;
    return false;
}

// The path with "{*}" for the names below folded prefixes.
static struct slice fold_path(const struct diff_noise *noise, struct slice path,
                              char storage[DIFF_PATH_BYTES])
{
    struct text text = text_over(storage, DIFF_PATH_BYTES);
    while (path.len > 0) {
        struct slice segment = next_segment(&path);
        bool folded = is_name(segment) && is_folded(noise, siphash(KEY, text.data, text.len));
        text_add(&text, folded ? SLICE("{*}") : segment);
    }
    return text_slice(&text);
}

// Notes the names of a new path below their prefixes. The prefix that has too many now, or NULL; *full: there
// is no room to note them.
static struct diff_prefix *note_names(struct diff_noise *noise, struct slice path, bool *full)
{
    struct slice rest = path;
    *full = false;
    while (rest.len > 0) {
        struct slice before = {path.data, path.len - rest.len};
        struct slice segment = next_segment(&rest);
        uint64_t hash = siphash(KEY, before.data, before.len),
                 below = siphash(KEY, path.data, path.len - rest.len);
        if (!is_name(segment) || find_prefix(noise, below) != NULL)
            continue;
        struct diff_prefix *parent = find_prefix(noise, hash);
        if (parent == NULL)
            parent = add_prefix(noise, hash);
        *full = parent == NULL || add_prefix(noise, below) == NULL;
        if (*full)
            return NULL;
        if (++parent->children > DIFF_CHILDREN_MAX)
            return parent;
    }
    return NULL;
}

static struct diff_row *find_row(struct diff_noise *noise, struct slice path, enum diff_kind kind)
{
    uint64_t hash = hash_of(path, kind);
    for (uint32_t i = 0; i < noise->row_count; i++)
        if (noise->hashes[i] == hash && slice_equal(slice_of(noise->rows[i].path), path))
            return &noise->rows[i];
    return NULL;
}

void diff_noise_take_row(struct diff_noise *noise, const struct diff_row *row)
{
    CHECK(noise->row_count < DIFF_ROWS_MAX);
    noise->rows[noise->row_count] = *row;
    noise->hashes[noise->row_count++] = hash_of(slice_of(row->path), row->kind);
}

static void add_row(struct diff_noise *noise, struct slice path, enum diff_kind kind, enum diff_class class)
{
    struct diff_row row = {.kind = kind, .rank = ++noise->rank_count, .class = class};
    utf8_copy(row.path, sizeof row.path, path);
    diff_noise_take_row(noise, &row);
}

static uint64_t requests_of(const struct diff_row *row)
{
    return row->both + row->candidate + row->secondary + row->alone + row->earlier;
}

// Names every row anew. Of those that have one name then, the first keeps its evidence.
static void fold_rows(struct diff_noise *noise)
{
    uint32_t count = noise->row_count;
    noise->row_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        char storage[DIFF_PATH_BYTES];
        struct diff_row row = noise->rows[i];
        struct slice path = fold_path(noise, slice_of(row.path), storage);
        struct diff_row *into = find_row(noise, path, row.kind);
        if (into != NULL) {
            into->folded += row.folded + 1;
            into->earlier += requests_of(&row);
            into->class = into->class == row.class ? row.class : DIFF_CLASS_NONE;
            continue;
        }
        memset(row.path, 0, sizeof row.path);
        utf8_copy(row.path, sizeof row.path, path);
        diff_noise_take_row(noise, &row);
    }
}

void diff_noise_note_rows(struct diff_noise *noise)
{
    bool full;
    noise->prefix_count = 0;
    for (uint32_t i = 0; i < noise->row_count; i++)
        (void)note_names(noise, slice_of(noise->rows[i].path), &full);
}

static struct diff_row *other_row(struct diff_noise *noise, enum diff_kind kind, bool make)
{
    struct slice name = SLICE(DIFF_OTHER_PATHS);
    if (find_row(noise, name, kind) == NULL && make)
        add_row(noise, name, kind, DIFF_CLASS_NONE);
    return find_row(noise, name, kind);
}

struct diff_row *diff_noise_row(struct diff_noise *noise, const struct diff_finding *finding)
{
    char storage[DIFF_PATH_BYTES];
    struct diff_row *row = find_row(noise, slice_of(finding->path), finding->kind);
    if (row != NULL)
        return row;
    row = find_row(noise, fold_path(noise, slice_of(finding->path), storage), finding->kind);
    return row != NULL ? row : other_row(noise, finding->kind, false);
}

void diff_noise_make_row(struct diff_noise *noise, const struct diff_finding *finding)
{
    char storage[DIFF_PATH_BYTES];
    bool full;
    if (find_row(noise, slice_of(finding->path), finding->kind) != NULL)
        return;
    struct slice path = fold_path(noise, slice_of(finding->path), storage);
    if (find_row(noise, path, finding->kind) != NULL)
        return;
    struct diff_prefix *crowded = NULL;
    full = noise->row_count >= OWN_ROWS_MAX;
    if (!full)
        crowded = note_names(noise, path, &full);
    if (!full)
        add_row(noise, path, finding->kind, finding->class);
    if (crowded != NULL && noise->folded_count < DIFF_FOLDED_MAX) {
        noise->folded[noise->folded_count++] = crowded->hash;
        fold_rows(noise);
        diff_noise_note_rows(noise);
    }
    if (full)
        (void)other_row(noise, finding->kind, true);
}
