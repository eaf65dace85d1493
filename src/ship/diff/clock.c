// SPDX-License-Identifier: Apache-2.0
// Moments that values tell: ISO 8601 with its zone, HTTP's dates, and counts since 1970 by their number of
// digits.
#include "base/check.h"
#include "ship/diff/diff_private.h"

enum { MINUTE_MS = 60000, HOUR_MS = 3600000, DAY_MS = 86400000, NEAR_MS = 5 * MINUTE_MS };

// The number at that place, which class.c has seen to be digits. -1: there is none.
static int number_at(struct slice value, size_t at, size_t digits)
{
    int number = 0;
    if (at + digits > value.len)
        return -1;
    for (size_t i = at; i < at + digits; i++) {
        if (value.data[i] < '0' || value.data[i] > '9')
            return -1;
        number = number * 10 + (value.data[i] - '0');
    }
    return number;
}

// Days from 1970 to a date of the Gregorian calendar (years from 0 on), by the rule that a year begins in
// March.
static int64_t days_of(int year, int month, int day)
{
    int64_t y = month > 2 ? year : year - 1, m = (month + 9) % 12;
    return 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719468;
}

static bool moment_of(int year, int month, int day, struct slice value, size_t at, int64_t *time_ms)
{
    int hour = number_at(value, at, 2), minute = number_at(value, at + 3, 2),
        second = number_at(value, at + 6, 2);
    if (year < 0 || month < 1 || month > 12 || day < 1 || hour < 0 || minute < 0 || second < 0)
        return false;
    *time_ms =
        days_of(year, month, day) * DAY_MS + (int64_t)hour * HOUR_MS + minute * MINUTE_MS + second * 1000;
    return true;
}

// "2026-01-02T03:04:05.678+01:00"; without a zone it is taken for UTC. Fractions do not matter here.
static bool read_iso(struct slice value, int64_t *time_ms)
{
    enum { TIME_AT = 11, REST_AT = 19 };
    int64_t found;
    if (!moment_of(number_at(value, 0, 4), number_at(value, 5, 2), number_at(value, 8, 2), value, TIME_AT,
                   &found))
        return false;
    for (size_t at = REST_AT; at < value.len; at++) {
        if (value.data[at] != '+' && value.data[at] != '-')
            continue;
        int hours = number_at(value, at + 1, 2);
        int minutes = number_at(value, at + (at + 3 < value.len && value.data[at + 3] == ':' ? 4 : 3), 2);
        int64_t offset = (int64_t)(hours > 0 ? hours : 0) * HOUR_MS + (minutes > 0 ? minutes : 0) * MINUTE_MS;
        found += value.data[at] == '+' ? -offset : offset;
        break;
    }
    *time_ms = found;
    return true;
}

// "Sun, 06 Nov 1994 08:49:37 GMT"
static bool read_http(struct slice value, int64_t *time_ms)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    enum { DAY_AT = 5, MONTH_AT = 8, YEAR_AT = 12, TIME_AT = 17 };
    for (int month = 0; month < 12 && value.len > TIME_AT; month++)
        if (memcmp(value.data + MONTH_AT, months + (size_t)month * 3, 3) == 0)
            return moment_of(number_at(value, YEAR_AT, 4), month + 1, number_at(value, DAY_AT, 2), value,
                             TIME_AT, time_ms);
    return false;
}

static bool read_epoch(struct slice value, int64_t *time_ms)
{
    enum { SECONDS_DIGITS = 10, MS_DIGITS = 13 };
    int64_t number = 0;
    size_t digits =
        value.len < MS_DIGITS ? value.len : MS_DIGITS; // what is finer than a millisecond is left out
    for (size_t i = 0; i < digits && value.data[i] >= '0' && value.data[i] <= '9'; i++)
        number = number * 10 + (value.data[i] - '0');
    *time_ms = value.len < MS_DIGITS ? number * 1000 : number;
    return value.len >= SECONDS_DIGITS;
}

bool diff_is_now(struct slice value, enum diff_class class, int64_t now_ms)
{
    int64_t time_ms;
    bool read = class == DIFF_CLASS_TIME    ? read_iso(value, &time_ms)
                : class == DIFF_CLASS_HTTP  ? read_http(value, &time_ms)
                : class == DIFF_CLASS_EPOCH ? read_epoch(value, &time_ms)
                                            : false;
    return read && time_ms > now_ms - NEAR_MS && time_ms < now_ms + NEAR_MS;
}
