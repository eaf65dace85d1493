// SPDX-License-Identifier: Apache-2.0
// config: the schema and the reference in the tree are what the table prints. SLUICE_REGENERATE=1 writes
// them.
#include <jansson.h>

#include "daemon/config/config.h"
#include "test.h"

static char printed[CONFIG_SCHEMA_BYTES_MAX];
static char stored[CONFIG_SCHEMA_BYTES_MAX];

static void compare(const char *path, void (*write)(struct text *text))
{
    struct text text = text_over(printed, sizeof printed);
    write(&text);
    assert_false(text.cut);
    if (getenv("SLUICE_REGENERATE") != NULL) {
        FILE *out = fopen(path, "w");
        assert_non_null(out);
        fputs(printed, out);
        fclose(out);
    }
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    stored[fread(stored, 1, sizeof stored - 1, file)] = '\0';
    fclose(file);
    if (strcmp(printed, stored) != 0)
        fail_msg("%s is out of date; run this test with SLUICE_REGENERATE=1 and commit it", path);
}

TEST(schema)
{
    compare("docs/sluice.schema.json", config_schema_write);
    json_error_t error;
    json_t *schema = json_loads(printed, JSON_REJECT_DUPLICATES, &error);
    if (schema == NULL)
        fail_msg("line %d: %s", error.line, error.text);
    json_t *definitions = json_object_get(schema, "$defs");
    assert_true(json_object_size(definitions) > 10);
    assert_non_null(json_object_get(definitions, "rollout"));
    json_decref(schema);
}

TEST(reference)
{
    compare("docs/guide/configuration.md", config_words_write);
}
