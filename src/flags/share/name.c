// SPDX-License-Identifier: Apache-2.0
// Names of images: "image-" and sixteen hexadecimal digits.
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "flags/share/share_private.h"

enum { PREFIX_BYTES = 6, DIGITS = 16 };

void share_image_name(uint64_t image, char name[SHARE_NAME_BYTES])
{
    (void)snprintf(name, SHARE_NAME_BYTES, "image-%016" PRIx64, image);
}

bool share_image_number(const char *name, uint64_t *image)
{
    uint64_t number = 0;
    if (strlen(name) != PREFIX_BYTES + DIGITS || strncmp(name, "image-", PREFIX_BYTES) != 0)
        return false;
    for (const char *at = name + PREFIX_BYTES; *at != '\0'; at++) {
        if (*at >= '0' && *at <= '9')
            number = number << 4 | (uint64_t)(*at - '0');
        else if (*at >= 'a' && *at <= 'f')
            number = number << 4 | (uint64_t)(*at - 'a' + 10);
        else
            return false;
    }
    *image = number;
    return true;
}
