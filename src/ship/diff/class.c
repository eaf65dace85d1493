// SPDX-License-Identifier: Apache-2.0
// Each class is told by its shape alone, in one pass over the value.
#include "ship/diff/class.h"

#include <stdint.h>

#include "base/check.h"

enum { TOKEN_BYTES_MIN = 16, EPOCH_SECONDS_MIN = 978307200, EPOCH_DIGITS = 10 };

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_lower(char c)
{
    return c >= 'a' && c <= 'z';
}

static bool is_upper(char c)
{
    return c >= 'A' && c <= 'Z';
}

static bool is_hex_letter(char c)
{
    return (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

// '9' stands for a digit, 'x' for a hexadecimal digit, 'A' for a letter; all else for itself.
static bool has_shape(struct slice value, const char *shape)
{
    size_t len = strlen(shape);
    if (value.len < len)
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = value.data[i];
        bool fits = shape[i] == '9'   ? is_digit(c)
                    : shape[i] == 'x' ? is_digit(c) || is_hex_letter(c)
                    : shape[i] == 'A' ? is_lower(c) || is_upper(c)
                                      : c == shape[i];
        if (!fits)
            return false;
    }
    return true;
}

static struct slice after(struct slice value, size_t count)
{
    return (struct slice){value.data + count, value.len - count};
}

static bool is_uuid(struct slice value)
{
    return value.len == 36 && has_shape(value, "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx");
}

static bool is_ulid(struct slice value)
{
    if (value.len != 26 || value.data[0] < '0' || value.data[0] > '7')
        return false;
    bool letters = false;
    for (size_t i = 0; i < value.len; i++) {
        char c = value.data[i];
        if (!is_digit(c) && (!is_upper(c) || c == 'I' || c == 'L' || c == 'O' || c == 'U'))
            return false;
        letters = letters || is_upper(c);
    }
    return letters;
}

static bool is_base64url(char c)
{
    return is_digit(c) || is_lower(c) || is_upper(c) || c == '-' || c == '_';
}

static bool is_jwt(struct slice value)
{
    size_t dots = 0, run = 0;
    if (!slice_starts_with(value, SLICE("eyJ")))
        return false;
    for (size_t i = 0; i < value.len; i++) {
        run++;
        if (value.data[i] == '.') {
            dots++;
            if (run < 3)
                return false;
            run = 0;
        } else if (!is_base64url(value.data[i])) {
            return false;
        }
    }
    return dots == 2;
}

static size_t skip_digits(struct slice value, size_t at)
{
    while (at < value.len && is_digit(value.data[at]))
        at++;
    return at;
}

static bool is_zone(struct slice zone)
{
    return zone.len == 0 || (zone.len == 1 && (zone.data[0] == 'Z' || zone.data[0] == 'z')) ||
           ((zone.data[0] == '+' || zone.data[0] == '-') &&
            ((zone.len == 6 && has_shape(after(zone, 1), "99:99")) ||
             (zone.len == 5 && has_shape(after(zone, 1), "9999"))));
}

static bool is_month_day(const char *month, const char *day)
{
    int m = (month[0] - '0') * 10 + month[1] - '0', d = (day[0] - '0') * 10 + day[1] - '0';
    return m >= 1 && m <= 12 && d >= 1 && d <= 31;
}

static bool is_iso_time(struct slice value)
{
    if (has_shape(value, "99999999T999999")) // the basic form
        return is_month_day(value.data + 4, value.data + 6) && is_zone(after(value, 15));
    if (!has_shape(value, "9999-99-99") || !is_month_day(value.data + 5, value.data + 8))
        return false;
    struct slice rest = after(value, 10);
    if (rest.len == 0)
        return true;
    if ((rest.data[0] != 'T' && rest.data[0] != 't' && rest.data[0] != ' ') ||
        !has_shape(after(rest, 1), "99:99"))
        return false;
    rest = after(rest, 6);
    if (has_shape(rest, ":99"))
        rest = after(rest, 3);
    if (rest.len > 1 && (rest.data[0] == '.' || rest.data[0] == ','))
        rest = after(rest, skip_digits(rest, 1));
    return is_zone(rest);
}

static bool is_http_date(struct slice value)
{
    return value.len == 29 && has_shape(value, "AAA, 99 AAA 9999 99:99:99 GMT");
}

static bool is_epoch(struct slice value)
{
    size_t digits = skip_digits(value, 0);
    if (digits < EPOCH_DIGITS || digits > EPOCH_DIGITS + 9 || (digits - EPOCH_DIGITS) % 3 != 0)
        return false;
    uint64_t seconds = 0;
    for (size_t i = 0; i < EPOCH_DIGITS; i++)
        seconds = seconds * 10 + (uint64_t)(value.data[i] - '0');
    if (seconds < EPOCH_SECONDS_MIN || seconds >= UINT64_C(4102444800))
        return false;
    return digits == value.len || (digits == EPOCH_DIGITS && value.len > digits + 1 &&
                                   value.data[digits] == '.' && skip_digits(value, digits + 1) == value.len);
}

static bool is_duration(struct slice value)
{
    static const char *const UNITS[] = {"ns", "us", "µs", "ms", "s", "sec", "m", "min", "h"};
    size_t at = skip_digits(value, 0);
    if (slice_starts_with(value, SLICE("PT")) && value.len > 3) {
        for (at = 2; at < value.len; at++)
            if (!is_digit(value.data[at]) && strchr("HMS.", value.data[at]) == NULL)
                return false;
        return is_digit(value.data[2]) && is_upper(value.data[value.len - 1]);
    }
    if (at == 0)
        return false;
    if (at + 1 < value.len && value.data[at] == '.')
        at = skip_digits(value, at + 1);
    if (at < value.len && value.data[at] == ' ')
        at++;
    for (size_t i = 0; i < ARRAY_LEN(UNITS); i++)
        if (slice_equal(after(value, at), slice_of(UNITS[i])))
            return true;
    return false;
}

// Hexadecimal, or base64 of both alphabets with up to two '=' at the end.
static enum diff_class class_of_token(struct slice value)
{
    size_t digits = 0, lower = 0, upper = 0, beyond_hex = 0, len = value.len;
    while (len > 0 && value.len - len < 2 && value.data[len - 1] == '=')
        len--;
    if (len < TOKEN_BYTES_MIN)
        return DIFF_CLASS_NONE;
    for (size_t i = 0; i < len; i++) {
        char c = value.data[i];
        digits += is_digit(c);
        lower += is_lower(c);
        upper += is_upper(c);
        beyond_hex += !is_digit(c) && !is_hex_letter(c);
        if (!is_base64url(c) && c != '+' && c != '/')
            return DIFF_CLASS_NONE;
    }
    if (beyond_hex == 0 && len == value.len && digits > 0 && lower + upper > 1) // "1e9999..." is a number
        return DIFF_CLASS_HEX;
    return digits > 0 && lower > 0 && upper > 0 ? DIFF_CLASS_TOKEN : DIFF_CLASS_NONE;
}

enum diff_class diff_class_of(struct slice value)
{
    static bool (*const shapes[DIFF_CLASSES])(struct slice) = {
        [DIFF_CLASS_UUID] = is_uuid,         [DIFF_CLASS_ULID] = is_ulid,      [DIFF_CLASS_JWT] = is_jwt,
        [DIFF_CLASS_TIME] = is_iso_time,     [DIFF_CLASS_HTTP] = is_http_date, [DIFF_CLASS_EPOCH] = is_epoch,
        [DIFF_CLASS_DURATION] = is_duration,
    };
    for (enum diff_class class = DIFF_CLASS_UUID; class <= DIFF_CLASS_DURATION; class ++)
        if (value.len > 1 && shapes[class](value))
            return class;
    return class_of_token(value);
}

const char *diff_class_name(enum diff_class class)
{
    static const char *const NAMES[DIFF_CLASSES] = {"",          "uuid",  "ulid",     "jwt", "time",
                                                    "http date", "epoch", "duration", "hex", "token"};
    CHECK((unsigned)class < DIFF_CLASSES);
    return NAMES[class];
}

bool diff_class_is_id(struct slice name)
{
    if (name.len == 0 || skip_digits(name, 0) == name.len)
        return name.len > 0;
    return is_uuid(name) || is_ulid(name) || is_iso_time(name) || class_of_token(name) == DIFF_CLASS_HEX;
}
