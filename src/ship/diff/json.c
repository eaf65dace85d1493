// SPDX-License-Identifier: Apache-2.0
// JSON (RFC 8259) into a tree, in one pass without recursion. Strings may hold bytes that are not UTF-8, and
// lone surrogates: they are compared as they are, and said.
#include "base/utf8.h"
#include "ship/diff/diff_private.h"

struct reader {
    struct diff_tree *tree;
    const char *begin, *at, *end;
    uint32_t parent, last; // the container that is open, and its last child so far
    uint32_t depth;
    struct diff_node name; // key fields of the member that comes
};

static enum status fail(struct reader *r, const char *what)
{
    r->tree->fault = what;
    r->tree->fault_at = (uint32_t)(r->at - r->begin);
    return STATUS_INVALID;
}

static int peek(const struct reader *r)
{
    return r->at < r->end ? (unsigned char)*r->at : -1;
}

static void skip_space(struct reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\n' || *r->at == '\r' || *r->at == '\t'))
        r->at++;
}

// The code of \uXXXX at the 'u', with its low surrogate if that follows. A lone surrogate stays one.
static uint32_t unicode_code(struct slice text, size_t *used)
{
    uint32_t code = (uint32_t)utf8_unit(text.data + 1);
    *used = 5;
    if (code < 0xd800 || code > 0xdbff || text.len < 11 || text.data[5] != '\\' || text.data[6] != 'u')
        return code;
    int low = utf8_unit(text.data + 7);
    if (low < 0xdc00 || low > 0xdfff)
        return code;
    *used = 11;
    return 0x10000 + ((code - 0xd800) << 10) + ((uint32_t)low - 0xdc00);
}

bool diff_json_piece(struct slice *rest, char storage[4], struct slice *piece)
{
    static const char NAMES[] = "bfnrt", BYTES[] = "\b\f\n\r\t";
    if (rest->len == 0)
        return false;
    const char *escape = memchr(rest->data, '\\', rest->len);
    size_t used = escape == NULL ? rest->len : (size_t)(escape - rest->data);
    *piece = (struct slice){rest->data, used};
    if (used == 0) {
        const char *name = strchr(NAMES, rest->data[1]);
        piece->data = storage;
        piece->len = 1;
        storage[0] = name != NULL ? BYTES[name - NAMES] : rest->data[1];
        used = 1;
        if (rest->data[1] == 'u')
            piece->len =
                utf8_put(unicode_code((struct slice){rest->data + 1, rest->len - 1}, &used), storage);
        used++;
    }
    *rest = (struct slice){rest->data + used, rest->len - used};
    return true;
}

static bool is_surrogate(struct slice piece)
{
    return piece.len == 3 && (unsigned char)piece.data[0] == 0xed && (unsigned char)piece.data[1] >= 0xa0;
}

static uint64_t string_hash(struct diff_tree *tree, struct slice text, bool escaped)
{
    struct siphash_state state;
    struct slice piece;
    char storage[4];
    if (!escaped)
        return siphash(tree->key, text.data, text.len);
    siphash_begin(&state, tree->key);
    while (diff_json_piece(&text, storage, &piece)) {
        if (piece.data == storage && is_surrogate(piece))
            tree->notes |= DIFF_NOTE_NOT_UTF8;
        siphash_add(&state, piece.data, piece.len);
    }
    return siphash_end(&state);
}

// The number of leading bytes that need no look: neither quote, backslash, control character nor beyond
// ASCII.
static size_t plain_run(const char *at, const char *end)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), high = ones << 7;
    const char *begin = at;
    for (; end - at >= 8; at += 8) {
        uint64_t word;
        memcpy(&word, at, sizeof word);
        uint64_t quote = word ^ (ones * '"'), backslash = word ^ (ones * '\\');
        uint64_t found = (((quote - ones) & ~quote) | ((backslash - ones) & ~backslash) |
                          ((word - ones * 0x20) & ~word) | word) &
                         high;
        if (found == 0)
            continue;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
        return (size_t)(at - begin) + (size_t)__builtin_ctzll(found) / 8;
#else
        break;
#endif
    }
    while (at < end && *at != '"' && *at != '\\' && (signed char)*at >= 0x20)
        at++;
    return (size_t)(at - begin);
}

// The escape at a backslash: its length, or 0 when it is none.
static size_t escape_length(struct slice text)
{
    if (text.len < 2)
        return 0;
    if (text.data[1] == 'u')
        return text.len >= 6 && utf8_unit(text.data + 2) >= 0 ? 6 : 0;
    return text.data[1] != '\0' && strchr("\"\\/bfnrt", text.data[1]) != NULL ? 2 : 0;
}

// Characters beyond ASCII come in runs.
static void skip_beyond_ascii(struct reader *r)
{
    while (r->at < r->end && (signed char)*r->at < 0) {
        size_t used = utf8_length_beyond_ascii((struct slice){r->at, (size_t)(r->end - r->at)});
        if (used == 0)
            r->tree->notes |= DIFF_NOTE_NOT_UTF8;
        r->at += used > 0 ? used : 1;
    }
}

// At the opening quote. Gives the body.
static enum status read_string(struct reader *r, struct slice *body, bool *escaped)
{
    const char *begin = ++r->at;
    *escaped = false;
    for (;;) {
        r->at += plain_run(r->at, r->end);
        int c = peek(r);
        struct slice rest = {r->at, (size_t)(r->end - r->at)};
        if (c == '"')
            break;
        if (c < 0x20)
            return fail(r,
                        c < 0 ? "the string has no end" : "a control character in a string must be escaped");
        if (c != '\\') {
            skip_beyond_ascii(r);
            continue;
        }
        *escaped = true;
        size_t used = escape_length(rest);
        if (used == 0)
            return fail(r, "malformed escape in a string");
        r->at += used;
    }
    *body = (struct slice){begin, (size_t)(r->at - begin)};
    r->at++;
    return STATUS_OK;
}

// A decimal as 0.d1d2...dn times ten to the power of `point`, d1 and dn not zero.
struct decimal {
    uint64_t digits; // d1...dn as an integer, if n is at most DIGITS_EXACT
    uint64_t count;  // n; 0 for zero
    int64_t point;
    struct slice power; // an exponent of more digits than can be added
    bool negative;
};
enum { DIGITS_EXACT = 18, POWER_DIGITS_MAX = 15 };

static void add_power(struct decimal *d, struct slice text)
{
    bool negative = text.data[0] == '-';
    size_t at = text.data[0] == '-' || text.data[0] == '+';
    while (at < text.len && text.data[at] == '0')
        at++;
    if (text.len - at > POWER_DIGITS_MAX) {
        d->power = (struct slice){text.data + at - (negative ? 1 : 0), text.len - at + (negative ? 1 : 0)};
        return;
    }
    int64_t power = 0;
    for (; at < text.len; at++)
        power = power * 10 + (text.data[at] - '0');
    d->point += negative ? -power : power;
}

// The text keeps the grammar.
static struct decimal decimal_of(struct slice text)
{
    struct decimal d = {.negative = text.data[0] == '-'};
    uint64_t zeros = 0; // that may turn out to be the last digits
    bool fraction = false;
    size_t at = d.negative;
    for (; at < text.len && (text.data[at] | 0x20) != 'e'; at++) {
        char c = text.data[at];
        if (c == '.') {
            fraction = true;
            continue;
        }
        bool leading = d.count == 0 && c == '0';
        d.point += leading ? (fraction ? -1 : 0) : (fraction ? 0 : 1);
        if (c == '0') {
            zeros += !leading;
            continue;
        }
        d.count += zeros + 1;
        if (d.count <= DIGITS_EXACT) {
            for (; zeros > 0; zeros--)
                d.digits *= 10;
            d.digits = d.digits * 10 + (uint64_t)(c - '0');
        }
        zeros = 0;
    }
    if (d.count == 0)
        return (struct decimal){0}; // also -0, and 0e5
    if (at < text.len)
        add_power(&d, (struct slice){text.data + at + 1, text.len - at - 1});
    return d;
}

// d1...dn, out of the text.
static uint64_t digits_hash(struct siphash_key key, struct slice text, uint64_t count)
{
    struct siphash_state state;
    siphash_begin(&state, key);
    bool begun = false;
    for (size_t at = 0; count > 0; at++) {
        begun = begun || (text.data[at] >= '1' && text.data[at] <= '9');
        if (!begun || text.data[at] == '.')
            continue;
        siphash_add(&state, text.data + at, 1);
        count--;
    }
    return siphash_end(&state);
}

uint64_t diff_json_number_hash(const struct diff_tree *tree, struct slice text)
{
    struct decimal d = decimal_of(text);
    uint64_t digits = d.count > DIGITS_EXACT ? digits_hash(tree->key, text, d.count) : d.digits;
    uint64_t hash = diff_tree_mix(tree, digits, (uint64_t)d.point * 2 + d.negative);
    return d.power.len > 0 ? diff_tree_mix(tree, hash, siphash(tree->key, d.power.data, d.power.len)) : hash;
}

static size_t skip_digits(struct reader *r)
{
    const char *begin = r->at;
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9')
        r->at++;
    return (size_t)(r->at - begin);
}

// The grammar of RFC 8259 section 6.
static enum status skip_number(struct reader *r)
{
    if (peek(r) == '-')
        r->at++;
    int first = peek(r);
    size_t digits = skip_digits(r);
    if (digits == 0)
        return fail(r, "expected a value");
    if (first == '0' && digits > 1)
        return fail(r, "a number must not begin with a needless zero");
    if (peek(r) == '.') {
        r->at++;
        if (skip_digits(r) == 0)
            return fail(r, "expected digits after the point");
    }
    if (peek(r) == 'e' || peek(r) == 'E') {
        r->at++;
        if (peek(r) == '+' || peek(r) == '-')
            r->at++;
        if (skip_digits(r) == 0)
            return fail(r, "expected digits in the exponent");
    }
    return STATUS_OK;
}

static enum status skip_word(struct reader *r, struct slice word)
{
    if (!slice_starts_with((struct slice){r->at, (size_t)(r->end - r->at)}, word))
        return fail(r, "expected a value");
    r->at += word.len;
    return STATUS_OK;
}

// The place of the value that begins here, under the name that was read.
static struct diff_node *add_node(struct reader *r, enum node_kind kind)
{
    uint32_t index = diff_tree_add(r->tree, r->parent, r->last, kind);
    if (index == NODE_NONE)
        return NULL;
    struct diff_node *node = &r->tree->nodes[index];
    node->at = (uint32_t)(r->at - r->begin);
    if (r->parent != NODE_NONE && r->tree->nodes[r->parent].kind == NODE_OBJECT) {
        node->key_at = r->name.key_at;
        node->key_len = r->name.key_len;
        node->key_hash = r->name.key_hash;
        node->key_escaped = r->name.key_escaped;
    }
    r->last = index;
    return node;
}

static void hash_scalar(struct diff_tree *tree, struct diff_node *node)
{
    struct slice text = diff_tree_text(tree, node);
    uint64_t hash = node->kind == NODE_STRING                      ? string_hash(tree, text, node->escaped)
                    : node->kind == NODE_NUMBER && !tree->spelling ? diff_json_number_hash(tree, text)
                                                                   : siphash(tree->key, text.data, text.len);
    node->hash = diff_tree_mix(tree, hash, node->kind);
}

static enum status read_scalar(struct reader *r, int c)
{
    enum node_kind kind = c == '"'               ? NODE_STRING
                          : c == 't' || c == 'f' ? NODE_BOOL
                          : c == 'n'             ? NODE_NULL
                                                 : NODE_NUMBER;
    struct diff_node *node = add_node(r, kind);
    struct slice text = {r->at, 0};
    bool escaped = false;
    if (node == NULL)
        return STATUS_FULL;
    enum status status = c == '"'   ? read_string(r, &text, &escaped)
                         : c == 't' ? skip_word(r, SLICE("true"))
                         : c == 'f' ? skip_word(r, SLICE("false"))
                         : c == 'n' ? skip_word(r, SLICE("null"))
                                    : skip_number(r);
    if (status != STATUS_OK)
        return status;
    node->at = (uint32_t)(text.data - r->begin);
    node->len = (uint32_t)(c == '"' ? text.len : (size_t)(r->at - text.data));
    node->escaped = escaped;
    hash_scalar(r->tree, node);
    return STATUS_OK;
}

static enum status read_name(struct reader *r)
{
    struct slice name;
    bool escaped;
    skip_space(r);
    if (peek(r) != '"')
        return fail(r, "expected the name of a member");
    enum status status = read_string(r, &name, &escaped);
    if (status != STATUS_OK)
        return status;
    r->name = (struct diff_node){.key_at = (uint32_t)(name.data - r->begin),
                                 .key_len = (uint32_t)name.len,
                                 .key_hash = string_hash(r->tree, name, escaped),
                                 .key_escaped = escaped};
    skip_space(r);
    if (peek(r) != ':')
        return fail(r, "expected ':'");
    r->at++;
    return STATUS_OK;
}

static void close_container(struct reader *r)
{
    struct diff_node *node = &r->tree->nodes[r->parent];
    r->at++;
    node->len = (uint32_t)(r->at - r->begin) - node->at;
    if (diff_tree_close(r->tree, r->parent))
        r->tree->notes |= DIFF_NOTE_DUPLICATE;
    r->last = r->parent;
    r->parent = node->parent;
    r->depth--;
}

// Reads a scalar, or opens a container; *opened: the next thing is its first member, or its end.
static enum status read_value(struct reader *r, bool *opened)
{
    skip_space(r);
    int c = peek(r);
    *opened = c == '{' || c == '[';
    if (!*opened)
        return read_scalar(r, c);
    if (r->depth == DIFF_DEPTH_MAX)
        return STATUS_RANGE;
    if (add_node(r, c == '{' ? NODE_OBJECT : NODE_ARRAY) == NULL)
        return STATUS_FULL;
    r->depth++;
    r->parent = r->last;
    r->last = NODE_NONE;
    r->at++;
    return STATUS_OK;
}

// Closes all that ends here. *more: a value of the open container comes next; else the document is over.
static enum status read_ends(struct reader *r, bool opened, bool *more)
{
    for (;; opened = false) {
        skip_space(r);
        *more = r->parent != NODE_NONE;
        if (!*more)
            return r->at == r->end ? STATUS_OK : fail(r, "bytes after the end of the document");
        bool object = r->tree->nodes[r->parent].kind == NODE_OBJECT;
        int c = peek(r);
        if (c == (object ? '}' : ']')) {
            close_container(r);
            continue;
        }
        if (opened)
            return STATUS_OK;
        if (c != ',')
            return fail(r, object ? "expected ',' or '}'" : "expected ',' or ']'");
        r->at++;
        return STATUS_OK;
    }
}

enum status diff_read_json(struct diff_tree *tree)
{
    struct reader r = {.tree = tree, .begin = tree->source.data, .parent = NODE_NONE, .last = NODE_NONE};
    bool more = true, opened = false;
    r.at = r.begin + (slice_starts_with(tree->source, SLICE("\xef\xbb\xbf")) ? 3 : 0);
    r.end = r.begin + tree->source.len;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && more) {
        if (r.parent != NODE_NONE && tree->nodes[r.parent].kind == NODE_OBJECT)
            status = read_name(&r);
        if (status == STATUS_OK)
            status = read_value(&r, &opened);
        if (status == STATUS_OK)
            status = read_ends(&r, opened, &more);
    }
    return status;
}
