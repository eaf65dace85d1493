// SPDX-License-Identifier: Apache-2.0
// Values that are new in every answer by their nature: ids, times, tokens. A finding whose two values are of
// one class says so; nothing is left out for its class unless a recipe asks for it.
#pragma once

#include <stdbool.h>

#include "base/slice.h"

enum diff_class {
    DIFF_CLASS_NONE,
    DIFF_CLASS_UUID,     // RFC 9562 section 4, any version
    DIFF_CLASS_ULID,     // 26 characters of Crockford's base 32, the first at most '7'
    DIFF_CLASS_JWT,      // RFC 7519: three runs of base64url, the first beginning as '{"' does
    DIFF_CLASS_TIME,     // ISO 8601 date, or date and time
    DIFF_CLASS_HTTP,     // RFC 9110 section 5.6.7: "Sun, 06 Nov 1994 08:49:37 GMT"
    DIFF_CLASS_EPOCH,    // seconds, or milli-, micro- or nanoseconds, of the years 2001 to 2099
    DIFF_CLASS_DURATION, // "12ms", "1.5s", "250 µs", or ISO 8601 "PT1.5S"
    DIFF_CLASS_HEX,      // at least 16 hexadecimal digits, letters among them
    DIFF_CLASS_TOKEN, // at least 16 characters of base64 or base64url with letters of both cases and digits
    DIFF_CLASSES
};

// The class of a value without quotes. Takes time linear in its length.
enum diff_class diff_class_of(struct slice value);
// "uuid", "time" ...; "" for none.
const char *diff_class_name(enum diff_class class);
// True for the name of a member that is rather an id: digits only, or a UUID, ULID, date or hexadecimal id.
bool diff_class_is_id(struct slice name);
