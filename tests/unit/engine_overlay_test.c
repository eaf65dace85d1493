// SPDX-License-Identifier: Apache-2.0
// control: what is laid over flags at runtime: changes fold into entries, the journal's form comes back the
// same, and the document that is made of them compiles to what was meant.
#include "base/heap.h"
#include "flags/eval/image.h"
#include "ship/engine/overlay.h"
#include "test.h"

static void take(struct engine_overlay *overlay, enum engine_flag_op op, const char *key, const char *text)
{
    struct engine_flag_change change = {.op = op, .key = key, .who = "ann", .from = "127.0.0.1"};
    if (op == ENGINE_FLAG_SET)
        change.definition = slice_of(text);
    else
        change.variant = text;
    assert_int_equal(engine_overlay_room(overlay, &change), STATUS_OK);
    assert_int_equal(engine_overlay_take(overlay, &change, 7, 1000), STATUS_OK);
}

static const char BOOLEAN[] =
    "{\"state\":\"ENABLED\",\"variants\":{\"on\":true,\"off\":false},\"defaultVariant\":\"on\"}";

TEST(changes_fold)
{
    struct engine_overlay overlay = {.count = 0};
    take(&overlay, ENGINE_FLAG_OFF, "b", "off");
    take(&overlay, ENGINE_FLAG_SET, "a", BOOLEAN);
    take(&overlay, ENGINE_FLAG_SET, "c", BOOLEAN);
    assert_int_equal(overlay.count, 3);
    const struct engine_overlay_entry *b = engine_overlay_find(&overlay, SLICE("b"));
    assert_non_null(b);
    assert_true(b->killed);
    assert_string_equal(b->kill_variant, "off");
    assert_null(b->definition);
    take(&overlay, ENGINE_FLAG_ON, "b", NULL);
    b = engine_overlay_find(&overlay, SLICE("b"));
    assert_false(b->killed);
    assert_int_equal(b->state, FLAGS_PATCH_ENABLED);
    take(&overlay, ENGINE_FLAG_UNSET, "b", NULL);
    assert_null(engine_overlay_find(&overlay, SLICE("b")));
    assert_non_null(engine_overlay_find(&overlay, SLICE("a")));
    assert_non_null(engine_overlay_find(&overlay, SLICE("c")));
    assert_int_equal(overlay.changes, 5);
    assert_int_equal(overlay.history[3].op, ENGINE_FLAG_ON);
    assert_string_equal(overlay.history[4].key, "b");
    engine_overlay_deinit(&overlay);
}

TEST(many_keys_stay_sorted)
{
    struct engine_overlay overlay = {.count = 0};
    char key[32];
    for (unsigned i = 0; i < 2000; i++) {
        snprintf(key, sizeof key, "flag-%u", i * 7919u % 2000u);
        take(&overlay, ENGINE_FLAG_SET, key, BOOLEAN);
    }
    assert_int_equal(overlay.count, 2000);
    for (unsigned i = 0; i < 2000; i++) {
        snprintf(key, sizeof key, "flag-%u", i);
        assert_non_null(engine_overlay_find(&overlay, slice_of(key)));
    }
    for (uint32_t i = 1; i < overlay.count; i++)
        assert_true(strcmp(overlay.entries[i - 1].key, overlay.entries[i].key) < 0);
    engine_overlay_deinit(&overlay);
}

TEST(the_journal_form)
{
    static uint8_t bytes[ENGINE_OVERLAY_WIRE_BYTES_MAX];
    struct engine_flag_change change = {.op = ENGINE_FLAG_SET,
                                        .key = "new \"banner\"",
                                        .definition = slice_of(BOOLEAN),
                                        .who = "ann",
                                        .from = "[::1]:7"};
    struct wire_writer writer = {.data = bytes, .cap = sizeof bytes};
    engine_overlay_encode(&change, &writer);
    assert_false(writer.full);
    struct engine_overlay_texts texts;
    struct engine_flag_change back;
    struct slice payload = {(const char *)bytes, writer.len};
    assert_int_equal(engine_overlay_decode(payload, &texts, &back), STATUS_OK);
    assert_int_equal(back.op, ENGINE_FLAG_SET);
    assert_string_equal(back.key, change.key);
    assert_true(slice_equal(back.definition, change.definition));
    assert_string_equal(back.variant, "");
    assert_string_equal(back.who, "ann");
    for (size_t cut = 0; cut < writer.len; cut++)
        assert_int_equal(engine_overlay_decode((struct slice){(const char *)bytes, cut}, &texts, &back),
                         STATUS_CORRUPT);
    bytes[1] = ENGINE_FLAG_UNSET + 1; // an operation of a later version
    assert_int_equal(engine_overlay_decode(payload, &texts, &back), STATUS_CORRUPT);
}

TEST(the_document_compiles)
{
    struct engine_overlay overlay = {.count = 0};
    take(&overlay, ENGINE_FLAG_SET, "quote\" and \\ and \x01", BOOLEAN);
    take(&overlay, ENGINE_FLAG_SET, "plain", BOOLEAN);
    take(&overlay, ENGINE_FLAG_OFF, "elsewhere", NULL); // no definition: a patch alone
    char *json;
    size_t len;
    assert_int_equal(engine_overlay_document(&overlay, &json, &len), STATUS_OK);
    static _Alignas(8) uint8_t image[65536];
    static struct flags_json nodes[4096];
    static char chars[4096];
    struct flags_json_space space = {
        .nodes = nodes, .node_cap = 4096, .chars = chars, .char_cap = sizeof chars};
    struct flags_compile_options options = {.strict = false};
    struct flags_finding problems[4];
    size_t problem_count, image_len;
    assert_int_equal(flags_compile((struct slice){json, len}, &options, &space, image, sizeof image,
                                   &image_len, problems, 4, &problem_count),
                     STATUS_OK);
    assert_int_equal(problem_count, 0);
    struct flags_image set;
    struct flags_info info;
    assert_int_equal(flags_image_open(image, image_len, &set), STATUS_OK);
    assert_int_equal(flags_image_flag_count(&set), 2);
    assert_true(flags_image_find(&set, SLICE("quote\" and \\ and \x01"), &info));
    heap_free(json);
    engine_overlay_deinit(&overlay);
}

TEST(the_history_keeps_the_newest)
{
    struct engine_overlay overlay = {.count = 0};
    for (unsigned i = 0; i < ENGINE_FLAG_CHANGES_KEPT + 5; i++)
        take(&overlay, ENGINE_FLAG_OFF, "f", "off");
    assert_int_equal(overlay.changes, ENGINE_FLAG_CHANGES_KEPT + 5);
    assert_int_equal(overlay.history[0].number, ENGINE_FLAG_CHANGES_KEPT + 1);
    assert_int_equal(overlay.history[5].number, 6);
    engine_overlay_deinit(&overlay);
}

// What stands in the journal must fit into a start: definitions together have a bound.
TEST(definitions_are_bounded_together)
{
    struct engine_overlay overlay = {.count = 0};
    char *text = heap_alloc(1, ENGINE_FLAG_DEFINITION_BYTES);
    assert_non_null(text);
    memset(text, ' ', ENGINE_FLAG_DEFINITION_BYTES);
    struct engine_flag_change change = {.op = ENGINE_FLAG_SET, .who = "ann", .from = "here"};
    change.definition = (struct slice){text, ENGINE_FLAG_DEFINITION_BYTES};
    char key[16];
    change.key = key;
    enum status status = STATUS_OK;
    uint32_t i = 0;
    for (; i < 1000 && status == STATUS_OK; i++) {
        snprintf(key, sizeof key, "flag-%u", i);
        status = engine_overlay_room(&overlay, &change);
        if (status == STATUS_OK)
            assert_int_equal(engine_overlay_take(&overlay, &change, i, 0), STATUS_OK);
    }
    assert_int_equal(status, STATUS_FULL);
    assert_int_equal(overlay.count, ENGINE_FLAG_OVERLAY_BYTES_MAX / ENGINE_FLAG_DEFINITION_BYTES);
    // One that is there already may be replaced, a switch needs no room, and what is taken away makes some.
    snprintf(key, sizeof key, "flag-1");
    assert_int_equal(engine_overlay_room(&overlay, &change), STATUS_OK);
    take(&overlay, ENGINE_FLAG_OFF, "other", NULL);
    take(&overlay, ENGINE_FLAG_UNSET, "flag-1", NULL);
    snprintf(key, sizeof key, "new");
    assert_int_equal(engine_overlay_room(&overlay, &change), STATUS_OK);
    heap_free(text);
    engine_overlay_deinit(&overlay);
}
