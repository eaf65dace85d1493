// SPDX-License-Identifier: Apache-2.0
// Values as the file writes them: durations, shares, sizes, and the nearest known word. No place, no
// messages.
#include "base/check.h"
#include "daemon/config/config_private.h"

enum { WEIGHT_DECIMALS = 3, NEAREST_BYTES = 64 };

struct unit {
    struct slice name;
    uint64_t factor;
};

static const struct unit duration_units[] = {
    {{"d", 1}, 86400000}, {{"h", 1}, 3600000}, {{"m", 1}, 60000}, {{"s", 1}, 1000}, {{"ms", 2}, 1},
};

static const struct unit size_units[] = {
    {{"TiB", 3}, 1ULL << 40},
    {{"GiB", 3}, 1ULL << 30},
    {{"MiB", 3}, 1ULL << 20},
    {{"KiB", 3}, 1ULL << 10},
    {{"B", 1}, 1},
};

// Takes digits off the front. INVALID when there are none.
static enum status take_digits(struct slice *text, uint64_t *value)
{
    uint64_t sum = 0;
    size_t digits = 0;
    for (; digits < text->len && text->data[digits] >= '0' && text->data[digits] <= '9'; digits++)
        if (__builtin_mul_overflow(sum, 10, &sum) ||
            __builtin_add_overflow(sum, (uint64_t)(text->data[digits] - '0'), &sum))
            return STATUS_RANGE;
    if (digits == 0)
        return STATUS_INVALID;
    text->data += digits;
    text->len -= digits;
    *value = sum;
    return STATUS_OK;
}

// Takes the letters off the front and finds them among the units from `first` on; the index, or count.
static size_t take_unit(struct slice *text, const struct unit *units, size_t count, size_t first)
{
    size_t letters = 0;
    while (letters < text->len && !(text->data[letters] >= '0' && text->data[letters] <= '9'))
        letters++;
    struct slice name = {text->data, letters};
    text->data += letters;
    text->len -= letters;
    for (size_t i = first; i < count; i++)
        if (slice_equal(units[i].name, name))
            return i;
    return count;
}

enum status config_parse_duration(struct slice text, uint64_t *ms)
{
    uint64_t sum = 0;
    size_t next = 0;
    if (text.len == 0)
        return STATUS_INVALID;
    // Largest unit first, each at most once.
    while (text.len > 0) {
        uint64_t value;
        enum status status = take_digits(&text, &value);
        if (status != STATUS_OK)
            return status;
        size_t unit = take_unit(&text, duration_units, ARRAY_LEN(duration_units), next);
        if (unit == ARRAY_LEN(duration_units))
            return STATUS_INVALID;
        if (__builtin_mul_overflow(value, duration_units[unit].factor, &value) ||
            __builtin_add_overflow(sum, value, &sum))
            return STATUS_RANGE;
        next = unit + 1;
    }
    *ms = sum;
    return STATUS_OK;
}

enum status config_parse_size(struct slice text, uint64_t *bytes)
{
    uint64_t value;
    enum status status = take_digits(&text, &value);
    if (status != STATUS_OK)
        return status;
    size_t unit = take_unit(&text, size_units, ARRAY_LEN(size_units), 0);
    if (unit == ARRAY_LEN(size_units) || text.len > 0)
        return STATUS_INVALID;
    if (__builtin_mul_overflow(value, size_units[unit].factor, &value))
        return STATUS_RANGE;
    *bytes = value;
    return STATUS_OK;
}

// What stands after the point, in thousandths. Further digits must be zeros.
static enum status take_thousandths(struct slice *text, uint64_t *value)
{
    uint64_t sum = 0, scale = 100;
    size_t digits = 0;
    for (; digits < text->len && text->data[digits] >= '0' && text->data[digits] <= '9'; digits++) {
        uint64_t digit = (uint64_t)(text->data[digits] - '0');
        if (digits >= WEIGHT_DECIMALS && digit != 0)
            return STATUS_RANGE;
        sum += digit * scale;
        scale /= 10;
    }
    if (digits == 0)
        return STATUS_INVALID;
    text->data += digits;
    text->len -= digits;
    *value = sum;
    return STATUS_OK;
}

enum status config_parse_weight(struct slice text, uint32_t *weight)
{
    uint64_t whole, part = 0;
    enum status status = take_digits(&text, &whole);
    if (status != STATUS_OK)
        return status;
    if (text.len > 0 && text.data[0] == '.') {
        text.data++;
        text.len--;
        status = take_thousandths(&text, &part);
        if (status == STATUS_INVALID)
            return status;
    }
    // A share without its % is another mistake than one that is too fine.
    if (text.len == 0 || text.data[text.len - 1] != '%')
        return STATUS_INVALID;
    if (status != STATUS_OK)
        return status;
    if (text.len != 1)
        return STATUS_INVALID;
    if (whole > 100 || whole * 1000 + part > ROLLOUT_WEIGHT_FULL)
        return STATUS_RANGE;
    *weight = (uint32_t)(whole * 1000 + part);
    return STATUS_OK;
}

void config_duration_write(uint64_t ms, struct text *text)
{
    if (ms == 0) {
        text_add(text, SLICE("0s"));
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(duration_units); i++) {
        uint64_t value = ms / duration_units[i].factor;
        ms %= duration_units[i].factor;
        if (value > 0)
            text_addf(text, "%llu%s", (unsigned long long)value, duration_units[i].name.data);
    }
}

void config_weight_write(uint32_t weight, struct text *text)
{
    text_addf(text, "%u", weight / 1000);
    uint32_t part = weight % 1000;
    if (part > 0)
        text_add_char(text, '.');
    for (uint32_t scale = 100; part > 0; scale /= 10) {
        text_add_char(text, (char)('0' + part / scale));
        part %= scale;
    }
    text_add_char(text, '%');
}

// ---- the nearest word ----

static size_t smallest(size_t a, size_t b, size_t c)
{
    size_t least = a < b ? a : b;
    return least < c ? least : c;
}

static bool letters_differ(char a, char b)
{
    return slice_lower_char(a) != slice_lower_char(b);
}

// Edits between two words: a letter more, less or other, or two neighbours exchanged.
static size_t edit_distance(struct slice a, struct slice b)
{
    size_t rows[3][NEAREST_BYTES + 1];
    size_t *before = rows[0], *last = rows[1], *now = rows[2];
    for (size_t j = 0; j <= b.len; j++)
        last[j] = j;
    for (size_t i = 1; i <= a.len; i++) {
        now[0] = i;
        for (size_t j = 1; j <= b.len; j++) {
            size_t cost = letters_differ(a.data[i - 1], b.data[j - 1]);
            now[j] = smallest(last[j] + 1, now[j - 1] + 1, last[j - 1] + cost);
            if (i > 1 && j > 1 && !letters_differ(a.data[i - 1], b.data[j - 2]) &&
                !letters_differ(a.data[i - 2], b.data[j - 1]) && before[j - 2] + 1 < now[j])
                now[j] = before[j - 2] + 1;
        }
        size_t *free_row = before;
        before = last;
        last = now;
        now = free_row;
    }
    return last[b.len];
}

const char *config_nearest(struct slice word, const char *const *candidates, size_t count)
{
    const char *nearest = NULL;
    if (word.len == 0 || word.len > NEAREST_BYTES)
        return NULL;
    // A third of the letters may be wrong; of short words one.
    size_t best = word.len < 6 ? 2 : word.len / 3 + 1;
    for (size_t i = 0; i < count; i++) {
        struct slice candidate = slice_of(candidates[i]);
        if (candidate.len == 0 || candidate.len > NEAREST_BYTES)
            continue;
        size_t distance = edit_distance(word, candidate);
        if (distance < best && distance < candidate.len) {
            best = distance;
            nearest = candidates[i];
        }
    }
    return nearest;
}

void config_hint_write(struct text *text, struct slice word, const char *const *candidates, size_t count)
{
    const char *nearest = config_nearest(word, candidates, count);
    if (nearest != NULL)
        text_addf(text, "; did you mean '%s'?", nearest);
}

void config_hint_known(struct text *text, struct slice word, const char *const *known, size_t count)
{
    size_t before = text->len;
    config_hint_write(text, word, known, count);
    text_addf(text, "%s known: ", text->len > before ? "" : ";");
    for (size_t i = 0; i < count; i++)
        text_addf(text, "%s%s", i == 0 ? "" : ", ", known[i]);
}
