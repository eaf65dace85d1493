// SPDX-License-Identifier: Apache-2.0
// What a command asks of its call: the values of its options.
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "daemon/cli/cli_private.h"

// -1: the command has none of that name.
static int find(const struct cli_call *call, const char *name)
{
    const struct cli_option *options = call->command->options;
    for (int i = 0; options != NULL && options[i].name != NULL; i++)
        if (strcmp(options[i].name, name) == 0)
            return i;
    return -1;
}

bool cli_offers(const struct cli_call *call, const char *name)
{
    return find(call, name) >= 0;
}

const char *cli_value(const struct cli_call *call, const char *name)
{
    int i = find(call, name);
    CHECK(i >= 0);
    return call->values[i];
}

bool cli_given(const struct cli_call *call, const char *name)
{
    return cli_value(call, name) != NULL;
}

enum status cli_value_number(const struct cli_call *call, const char *name, double fallback, double *number)
{
    const char *text = cli_value(call, name);
    if (text == NULL) {
        *number = fallback;
        return STATUS_OK;
    }
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value > 0) || value > 1e12) {
        fprintf(call->err, "sluice: --%s wants a positive number, not \"%s\"\n", name, text);
        return STATUS_INVALID;
    }
    *number = value;
    return STATUS_OK;
}

enum status cli_value_duration_ms(const struct cli_call *call, const char *name, uint64_t fallback_ms,
                                  uint64_t *duration_ms)
{
    static const struct {
        const char *unit;
        double ms;
    } units[] = {{"ms", 1}, {"s", 1e3}, {"m", 6e4}, {"h", 3.6e6}};
    const char *text = cli_value(call, name);
    if (text == NULL) {
        *duration_ms = fallback_ms;
        return STATUS_OK;
    }
    char *end;
    double value = strtod(text, &end);
    for (size_t i = 0; end != text && value > 0 && i < ARRAY_LEN(units); i++) {
        if (strcmp(end, units[i].unit) == 0 && value * units[i].ms < 1e13) {
            *duration_ms = (uint64_t)(value * units[i].ms);
            return STATUS_OK;
        }
    }
    fprintf(call->err, "sluice: --%s wants a duration like 500ms, 10s, 2m or 1h, not \"%s\"\n", name, text);
    return STATUS_INVALID;
}
