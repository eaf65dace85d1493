// SPDX-License-Identifier: Apache-2.0
// Recursive descent over RFC 8259. Without space it only validates; that is how a walk skips values.
#include "flags/eval/json.h"

#include <stdlib.h>

#include "base/siphash.h"
#include "base/utf8.h"

struct parser {
    struct slice source;
    size_t at;
    struct flags_json_space *space; // NULL: validate only
    struct flags_json_error *fault;
    uint32_t depth;
};

static enum status parse_value(struct parser *p, struct flags_json **out);

static enum status fail(struct parser *p, const char *what)
{
    *p->fault = (struct flags_json_error){p->at, what};
    return STATUS_INVALID;
}

static void skip_space(struct parser *p)
{
    while (p->at < p->source.len) {
        char c = p->source.data[p->at];
        if (c != ' ' && c != '\t' && c != '\n' && c != '\r')
            return;
        p->at++;
    }
}

static int peek(const struct parser *p)
{
    return p->at < p->source.len ? (unsigned char)p->source.data[p->at] : -1;
}

// Decodes \uXXXX at raw (which begins after the backslash), with its low surrogate if it needs one. Returns
// the bytes consumed after the backslash, 0 when malformed (a lone surrogate is).
static size_t decode_unicode(const char *raw, size_t len, uint32_t *code)
{
    int high = len >= 5 ? utf8_unit(raw + 1) : -1;
    if (high < 0 || (high >= 0xdc00 && high <= 0xdfff))
        return 0;
    *code = (uint32_t)high;
    if (high < 0xd800 || high > 0xdbff)
        return 5;
    if (len < 11 || raw[5] != '\\' || raw[6] != 'u')
        return 0;
    int low = utf8_unit(raw + 7);
    if (low < 0xdc00 || low > 0xdfff)
        return 0;
    *code = 0x10000 + (((uint32_t)high - 0xd800) << 10) + ((uint32_t)low - 0xdc00);
    return 11;
}

// One escape after its backslash: writes its bytes to out, returns the bytes consumed, 0 when malformed.
static size_t decode_escape(const char *raw, size_t len, char out[4], size_t *out_len)
{
    static const char NAMES[] = "\"\\/bfnrt";
    static const char BYTES[] = "\"\\/\b\f\n\r\t";
    if (len == 0)
        return 0;
    if (raw[0] == 'u') {
        uint32_t code = 0;
        size_t used = decode_unicode(raw, len, &code);
        *out_len = used > 0 ? utf8_put(code, out) : 0;
        return used;
    }
    for (size_t i = 0; i < sizeof NAMES - 1; i++) {
        if (raw[0] == NAMES[i]) {
            out[0] = BYTES[i];
            *out_len = 1;
            return 1;
        }
    }
    return 0;
}

enum status flags_json_unescape(struct slice raw, char *out, size_t cap, size_t *len)
{
    size_t n = 0;
    for (size_t at = 0; at < raw.len;) {
        char bytes[4] = {raw.data[at]};
        size_t count = 1;
        size_t used = 1;
        if (raw.data[at] == '\\') {
            used = decode_escape(raw.data + at + 1, raw.len - at - 1, bytes, &count);
            if (used == 0)
                return STATUS_INVALID;
            used++;
        }
        if (count > cap - n)
            return STATUS_FULL;
        memcpy(out + n, bytes, count);
        n += count;
        at += used;
    }
    *len = n;
    return STATUS_OK;
}

// Validates the string at the opening quote. *raw is its body as written; *escaped says whether it has
// escapes.
static enum status scan_string(struct parser *p, struct slice *raw, bool *escaped)
{
    size_t begin = ++p->at;
    *escaped = false;
    for (;;) {
        int c = peek(p);
        if (c < 0)
            return fail(p, "the string has no end");
        if (c == '"')
            break;
        if (c < 0x20)
            return fail(p, "a control character in a string must be escaped");
        size_t used;
        if (c == '\\') {
            char bytes[4];
            size_t count;
            *escaped = true;
            used = decode_escape(p->source.data + p->at + 1, p->source.len - p->at - 1, bytes, &count);
            if (used == 0)
                return fail(p, "malformed escape in a string");
            used++;
        } else {
            used = utf8_length((struct slice){p->source.data + p->at, p->source.len - p->at});
            if (used == 0)
                return fail(p, "bytes that are not UTF-8");
        }
        p->at += used;
    }
    *raw = (struct slice){p->source.data + begin, p->at - begin};
    p->at++;
    return STATUS_OK;
}

static enum status parse_string(struct parser *p, struct slice *out)
{
    struct slice raw;
    bool escaped;
    enum status status = scan_string(p, &raw, &escaped);
    if (status != STATUS_OK)
        return status;
    *out = raw;
    if (!escaped || p->space == NULL)
        return STATUS_OK;
    size_t len = 0;
    char *chars = p->space->chars + p->space->char_count;
    if (flags_json_unescape(raw, chars, p->space->char_cap - p->space->char_count, &len) != STATUS_OK)
        return STATUS_FULL;
    p->space->char_count += len;
    *out = (struct slice){chars, len};
    return STATUS_OK;
}

static size_t skip_digits(struct parser *p)
{
    size_t begin = p->at;
    while (peek(p) >= '0' && peek(p) <= '9')
        p->at++;
    return p->at - begin;
}

// Small whole numbers, the usual case, without the C library; others by strtod (in the C locale).
static double number_of(struct slice text, bool integral)
{
    enum { EXACT_DIGITS = 15 };
    if (integral && text.len <= EXACT_DIGITS) {
        int64_t value = 0;
        for (size_t i = text.data[0] == '-'; i < text.len; i++)
            value = value * 10 + (text.data[i] - '0');
        return text.data[0] == '-' ? -(double)value : (double)value;
    }
    char copy[FLAGS_JSON_NUMBER_BYTES_MAX + 1];
    memcpy(copy, text.data, text.len);
    copy[text.len] = '\0';
    return strtod(copy, NULL);
}

static enum status parse_number(struct parser *p, double *number, bool *integral)
{
    size_t begin = p->at;
    *integral = true;
    if (peek(p) == '-')
        p->at++;
    int first = peek(p);
    size_t digits = skip_digits(p);
    if (digits == 0)
        return fail(p, "expected a value");
    if (first == '0' && digits > 1)
        return fail(p, "a number must not begin with a needless zero");
    if (peek(p) == '.') {
        *integral = false;
        p->at++;
        if (skip_digits(p) == 0)
            return fail(p, "expected digits after the point");
    }
    if (peek(p) == 'e' || peek(p) == 'E') {
        *integral = false;
        p->at++;
        if (peek(p) == '+' || peek(p) == '-')
            p->at++;
        if (skip_digits(p) == 0)
            return fail(p, "expected digits in the exponent");
    }
    size_t len = p->at - begin;
    if (len > FLAGS_JSON_NUMBER_BYTES_MAX)
        return fail(p, "the number is too long");
    *number = number_of((struct slice){p->source.data + begin, len}, *integral);
    if (!(*number >= -1.7976931348623157e308 && *number <= 1.7976931348623157e308))
        return fail(p, "the number is out of range");
    return STATUS_OK;
}

static enum status parse_word(struct parser *p, struct slice word)
{
    if (p->source.len - p->at < word.len || memcmp(p->source.data + p->at, word.data, word.len) != 0)
        return fail(p, "expected a value");
    p->at += word.len;
    return STATUS_OK;
}

static enum status new_node(struct parser *p, struct flags_json **out)
{
    static struct flags_json nowhere; // never written: validating keeps no nodes
    if (p->space == NULL) {
        *out = &nowhere;
        return STATUS_OK;
    }
    if (p->space->node_count >= p->space->node_cap)
        return STATUS_FULL;
    *out = &p->space->nodes[p->space->node_count++];
    **out = (struct flags_json){0};
    return STATUS_OK;
}

// While an object has few members, each new name is compared with all before; a larger one is checked at its
// end.
enum { NAMES_LOOK_MAX = 256 };

// The link to the member of that name. NULL when there is none, or when the object is large.
static struct flags_json **find_duplicate(struct flags_json *object, struct slice key)
{
    if (object->count > NAMES_LOOK_MAX)
        return NULL;
    for (struct flags_json **link = &object->first; *link != NULL; link = &(*link)->next)
        if (slice_equal((*link)->key, key))
            return link;
    return NULL;
}

// A hash table of the names of a large object, in nodes not yet used; its entries are numbers of nodes, from
// 1. The address of the table keys the hash, so that nobody outside can choose names that collide.
struct names {
    struct flags_json *nodes;
    uint32_t *slots;
    uint32_t mask;
    struct siphash_key key;
};

static uint32_t *name_slot(const struct names *names, struct slice name)
{
    uint32_t i = (uint32_t)siphash(names->key, name.data, name.len) & names->mask;
    while (names->slots[i] != 0 && !slice_equal(names->nodes[names->slots[i] - 1].key, name))
        i = (i + 1) & names->mask;
    return &names->slots[i];
}

static enum status names_begin(struct parser *p, uint32_t count, struct names *names)
{
    struct flags_json_space *space = p->space;
    uint32_t slots = NAMES_LOOK_MAX;
    while (slots < 2 * (uint64_t)count)
        slots *= 2;
    if ((space->node_cap - space->node_count) * sizeof *space->nodes < slots * sizeof(uint32_t))
        return STATUS_FULL;
    *names = (struct names){.nodes = space->nodes,
                            .slots = (void *)(space->nodes + space->node_count),
                            .mask = slots - 1,
                            .key = {(uintptr_t)space->nodes, (uintptr_t)p->source.data}};
    memset(names->slots, 0, slots * sizeof(uint32_t));
    return STATUS_OK;
}

static void remove_dead(struct flags_json *object, uint8_t dead)
{
    for (struct flags_json **link = &object->first; *link != NULL;) {
        if ((*link)->kind != dead) {
            link = &(*link)->next;
            continue;
        }
        *link = (*link)->next;
        object->count--;
    }
}

// Checks all members of a large object at once: refuses a repeated name, or keeps the last of that name.
static enum status settle_names(struct parser *p, struct flags_json *object)
{
    enum { DEAD = UINT8_MAX };
    struct names names;
    enum status status = names_begin(p, object->count, &names);
    if (status != STATUS_OK)
        return status;
    for (struct flags_json *member = object->first; member != NULL; member = member->next) {
        uint32_t *slot = name_slot(&names, member->key);
        if (*slot != 0 && !p->space->last_wins) {
            if (member->key.data >= p->source.data && member->key.data < p->source.data + p->at)
                p->at = (size_t)(member->key.data - p->source.data);
            return fail(p, "the name stands twice in one object");
        }
        if (*slot != 0)
            names.nodes[*slot - 1].kind = DEAD;
        *slot = (uint32_t)(member - names.nodes) + 1;
    }
    remove_dead(object, DEAD);
    return STATUS_OK;
}

// Without space there is no object, and the name is given as it stands.
static enum status parse_member_key(struct parser *p, struct flags_json *object, struct slice *key)
{
    if (peek(p) != '"')
        return fail(p, "expected a name in double quotes");
    enum status status = parse_string(p, key);
    if (status != STATUS_OK)
        return status;
    skip_space(p);
    if (peek(p) != ':')
        return fail(p, "expected ':' after the name");
    p->at++;
    skip_space(p);
    if (p->space != NULL && !p->space->last_wins && find_duplicate(object, *key) != NULL)
        return fail(p, "the name stands twice in one object");
    return STATUS_OK;
}

// Appends a child at *link and returns the next link. With last_wins an earlier member of that name is
// removed.
static struct flags_json **append_child(struct parser *p, struct flags_json *node, struct flags_json *child,
                                        struct flags_json **link)
{
    struct flags_json **twin =
        p->space->last_wins && node->kind == FLAGS_JSON_OBJECT ? find_duplicate(node, child->key) : NULL;
    if (twin != NULL) {
        if (link == &(*twin)->next)
            link = twin;
        *twin = (*twin)->next;
        node->count--;
    }
    *link = child;
    node->count++;
    return &child->next;
}

static enum status parse_container(struct parser *p, struct flags_json *node, bool object)
{
    char close = object ? '}' : ']';
    struct flags_json **link = &node->first;
    if (++p->depth > FLAGS_JSON_DEPTH_MAX)
        return fail(p, "nested too deeply");
    if (p->space != NULL)
        node->kind = object ? FLAGS_JSON_OBJECT : FLAGS_JSON_ARRAY;
    p->at++;
    skip_space(p);
    if (peek(p) == close) {
        p->at++;
        p->depth--;
        return STATUS_OK;
    }
    for (;;) {
        struct slice key = {"", 0};
        struct flags_json *child;
        enum status status = object ? parse_member_key(p, node, &key) : STATUS_OK;
        if (status == STATUS_OK)
            status = parse_value(p, &child);
        if (status != STATUS_OK)
            return status;
        if (p->space != NULL) {
            child->key = key;
            link = append_child(p, node, child, link);
        }
        skip_space(p);
        int c = peek(p);
        if (c == close)
            break;
        if (c != ',')
            return fail(p, object ? "expected ',' or '}'" : "expected ',' or ']'");
        p->at++;
        skip_space(p);
    }
    if (p->space != NULL && object && node->count > NAMES_LOOK_MAX) {
        enum status status = settle_names(p, node);
        if (status != STATUS_OK)
            return status;
    }
    p->at++;
    p->depth--;
    return STATUS_OK;
}

static enum status parse_into(struct parser *p, struct flags_json *node)
{
    struct slice string = {"", 0};
    double number = 0;
    bool integral = false;
    enum flags_json_kind kind;
    enum status status;
    switch (peek(p)) {
    case '{':
        kind = FLAGS_JSON_OBJECT;
        status = parse_container(p, node, true);
        break;
    case '[':
        kind = FLAGS_JSON_ARRAY;
        status = parse_container(p, node, false);
        break;
    case '"':
        kind = FLAGS_JSON_STRING;
        status = parse_string(p, &string);
        break;
    case 't':
        kind = FLAGS_JSON_TRUE;
        status = parse_word(p, SLICE("true"));
        break;
    case 'f':
        kind = FLAGS_JSON_FALSE;
        status = parse_word(p, SLICE("false"));
        break;
    case 'n':
        kind = FLAGS_JSON_NULL;
        status = parse_word(p, SLICE("null"));
        break;
    default:
        kind = FLAGS_JSON_NUMBER;
        status = parse_number(p, &number, &integral);
        break;
    }
    if (status != STATUS_OK || p->space == NULL)
        return status;
    node->kind = (uint8_t)kind;
    node->text = string;
    node->number = number;
    node->integral = integral;
    return STATUS_OK;
}

static enum status parse_value(struct parser *p, struct flags_json **out)
{
    size_t begin = p->at;
    struct flags_json *node;
    enum status status = new_node(p, &node);
    if (status == STATUS_OK)
        status = parse_into(p, node);
    if (status != STATUS_OK)
        return status;
    if (p->space != NULL && node->kind != FLAGS_JSON_STRING)
        node->text = (struct slice){p->source.data + begin, p->at - begin};
    *out = node;
    return STATUS_OK;
}

enum status flags_json_parse(struct slice source, struct flags_json_space *space, struct flags_json **root,
                             struct flags_json_error *fault)
{
    struct parser p = {.source = source, .space = space, .fault = fault};
    struct flags_json *node;
    skip_space(&p);
    enum status status = parse_value(&p, &node);
    if (status != STATUS_OK)
        return status;
    skip_space(&p);
    if (p.at != source.len)
        return fail(&p, "something follows the document");
    *root = node;
    return STATUS_OK;
}

enum status flags_json_walk_begin(struct slice container, struct flags_json_walk *walk,
                                  struct flags_json_error *fault)
{
    struct parser p = {.source = container, .fault = fault};
    skip_space(&p);
    int c = peek(&p);
    if (c != '{' && c != '[')
        return fail(&p, "expected an object or an array");
    p.at++;
    skip_space(&p);
    *walk = (struct flags_json_walk){.source = container, .at = p.at, .object = c == '{'};
    if (peek(&p) == (c == '{' ? '}' : ']')) {
        walk->done = true;
        walk->at++;
    }
    return STATUS_OK;
}

// One step. With space NULL the value is only validated and *node is undefined.
static enum status walk_step(struct flags_json_walk *walk, struct flags_json_space *space, struct slice *key,
                             struct slice *value, struct flags_json **node, struct flags_json_error *fault)
{
    if (walk->done)
        return STATUS_NOT_FOUND;
    struct parser p = {.source = walk->source, .at = walk->at, .fault = fault};
    struct slice name = {"", 0};
    enum status status = walk->object ? parse_member_key(&p, NULL, &name) : STATUS_OK;
    size_t begin = p.at;
    p.space = space;
    if (status == STATUS_OK)
        status = parse_value(&p, node);
    if (status != STATUS_OK)
        return status;
    *value = (struct slice){walk->source.data + begin, p.at - begin};
    bool done = false;
    skip_space(&p);
    int c = peek(&p);
    if (c != ',' && c != (walk->object ? '}' : ']'))
        return fail(&p, walk->object ? "expected ',' or '}'" : "expected ',' or ']'");
    p.at++;
    if (c == ',')
        skip_space(&p);
    else
        done = true;
    walk->done = done;
    walk->at = p.at;
    *key = name;
    return STATUS_OK;
}

enum status flags_json_walk_next(struct flags_json_walk *walk, struct slice *key, struct slice *value,
                                 struct flags_json_error *fault)
{
    struct flags_json *node;
    struct slice text;
    enum status status = walk_step(walk, NULL, key, &text, &node, fault);
    if (status == STATUS_OK)
        *value = text;
    return status;
}

enum status flags_json_walk_tree(struct flags_json_walk *walk, struct flags_json_space *space,
                                 struct slice *key, struct flags_json **node, struct flags_json_error *fault)
{
    struct slice text;
    struct flags_json *tree;
    enum status status = walk_step(walk, space, key, &text, &tree, fault);
    if (status == STATUS_OK)
        *node = tree;
    return status;
}

const struct flags_json *flags_json_member(const struct flags_json *object, struct slice key)
{
    if (object == NULL || object->kind != FLAGS_JSON_OBJECT)
        return NULL;
    for (const struct flags_json *member = object->first; member != NULL; member = member->next)
        if (slice_equal(member->key, key))
            return member;
    return NULL;
}

void flags_json_position(struct slice source, size_t at, uint32_t *line, uint32_t *column)
{
    uint32_t lines = 1;
    size_t begin = 0;
    for (size_t i = 0; i < at && i < source.len; i++) {
        if (source.data[i] == '\n') {
            lines++;
            begin = i + 1;
        }
    }
    *line = lines;
    *column = (uint32_t)(at - begin) + 1;
}
