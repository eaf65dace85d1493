// SPDX-License-Identifier: Apache-2.0
// Any bytes as a template, a path and a text (lines of their own): what is sound never leads out of its
// bytes, and what a template made of captures gives back is the path that it matched.
#include <string.h>

#include "base/check.h"
#include "net/http/message.h"
#include "net/http/template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct slice line_next(struct slice *rest)
{
    const char *end = rest->len > 0 ? memchr(rest->data, '\n', rest->len) : NULL;
    struct slice line = {rest->data, end != NULL ? (size_t)(end - rest->data) : rest->len};
    size_t taken = line.len + (end != NULL);
    *rest = (struct slice){rest->data + taken, rest->len - taken};
    return line;
}

// A path is normal in one step, and never longer than it was.
static struct slice normal_of(struct slice path, char *storage, char *again)
{
    struct slice normal = http_path_normal(path, storage);
    CHECK(normal.len <= path.len);
    CHECK(slice_equal(http_path_normal(normal, again), normal));
    return normal;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char storage[4096], again[4096], made[65536];
    struct slice rest = {(const char *)data, size < sizeof storage ? size : sizeof storage};
    struct slice template = line_next(&rest), path = line_next(&rest), text = line_next(&rest);
    struct http_captures captures = {.count = 0};
    size_t at;
    path = normal_of(path, storage, again);
    (void)http_path_covers(template, path);
    if (http_template_check(template, &at) != NULL) {
        CHECK(at <= template.len);
        return 0;
    }
    (void)http_template_rank(template);
    if (path.len == 0 || path.data[0] != '/' || !http_template_match(template, path, &captures))
        return 0;
    struct text out = text_over(made, sizeof made);
    if (http_text_check(text, &captures, &at) == NULL)
        http_text_expand(text, &captures, &out);
    else
        CHECK(at <= text.len);
    return 0;
}
