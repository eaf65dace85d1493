// SPDX-License-Identifier: Apache-2.0
// Any bytes as an export of each format. Nothing may crash, a refusal says why, and what comes out compiles
// strictly, without a warning, with as many flags as were told.
#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "flags/convert/convert.h"
#include "flags/eval/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct flags_json nodes[1 << 16];
static char chars[1 << 18];
_Alignas(8) static uint8_t image[1 << 20];

static void check_output(const struct convert_result *result)
{
    struct flags_compile_options options = {.strict = true};
    struct flags_json_space space = {
        .nodes = nodes, .node_cap = 1 << 16, .chars = chars, .char_cap = sizeof chars};
    struct flags_finding problem;
    struct flags_image set;
    size_t count;
    size_t len;
    enum status status = flags_compile((struct slice){result->json, result->len}, &options, &space, image,
                                       sizeof image, &len, &problem, 1, &count);
    if (status == STATUS_FULL || status == STATUS_NO_MEMORY)
        return;
    CHECK(status == STATUS_OK);
    CHECK(count == 0);
    CHECK(flags_image_open(image, len, &set) == STATUS_OK);
    CHECK(flags_image_flag_count(&set) == result->flag_count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct convert_result result;
    if (size < 1)
        return 0;
    struct convert_options options = {.format = (enum convert_format)(data[0] % 4),
                                      .environment = (data[0] & 4) != 0 ? "production" : NULL};
    struct slice source = {(const char *)data + 1, size - 1};
    enum status status = convert_flags(source, &options, &result);
    CHECK(status == STATUS_OK || status == STATUS_INVALID);
    if (status == STATUS_OK)
        check_output(&result);
    else
        CHECK(result.json == NULL && result.finding_count > 0);
    for (uint32_t i = 0; i < result.finding_count; i++)
        CHECK(result.findings[i].text[0] != '\0');
    convert_result_free(&result);
    return 0;
}
