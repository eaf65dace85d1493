// SPDX-License-Identifier: Apache-2.0
// control: what is laid over flags at runtime: changes fold into entries, the journal's form comes back the
// same, and the document that is made of them compiles to what was meant.
#include "base/heap.h"
#include "flags/eval/image.h"
#include "flags/runtime/overlay.h"
#include "test.h"

static void take(struct runtime_overlay *overlay, enum runtime_op op, const char *key, const char *text)
{
    struct runtime_change change = {.op = op, .key = key, .who = "ann", .from = "127.0.0.1"};
    if (op == RUNTIME_SET)
        change.definition = slice_of(text);
    else
        change.variant = text;
    assert_int_equal(runtime_overlay_room(overlay, &change), STATUS_OK);
    assert_int_equal(runtime_overlay_take(overlay, &change, 7, 1000), STATUS_OK);
}

static const char BOOLEAN[] =
    "{\"state\":\"ENABLED\",\"variants\":{\"on\":true,\"off\":false},\"defaultVariant\":\"on\"}";

TEST(changes_fold)
{
    struct runtime_overlay overlay = {.count = 0};
    take(&overlay, RUNTIME_OFF, "b", "off");
    take(&overlay, RUNTIME_SET, "a", BOOLEAN);
    take(&overlay, RUNTIME_SET, "c", BOOLEAN);
    assert_int_equal(overlay.count, 3);
    const struct runtime_overlay_entry *b = runtime_overlay_find(&overlay, SLICE("b"));
    assert_non_null(b);
    assert_true(b->killed);
    assert_string_equal(b->kill_variant, "off");
    assert_null(b->definition);
    take(&overlay, RUNTIME_ON, "b", NULL);
    b = runtime_overlay_find(&overlay, SLICE("b"));
    assert_false(b->killed);
    assert_int_equal(b->state, FLAGS_PATCH_ENABLED);
    take(&overlay, RUNTIME_UNSET, "b", NULL);
    assert_null(runtime_overlay_find(&overlay, SLICE("b")));
    assert_non_null(runtime_overlay_find(&overlay, SLICE("a")));
    assert_non_null(runtime_overlay_find(&overlay, SLICE("c")));
    assert_int_equal(overlay.changes, 5);
    assert_int_equal(overlay.history[3].op, RUNTIME_ON);
    assert_string_equal(overlay.history[4].key, "b");
    runtime_overlay_deinit(&overlay);
}

TEST(many_keys_stay_sorted)
{
    struct runtime_overlay overlay = {.count = 0};
    char key[32];
    for (unsigned i = 0; i < 2000; i++) {
        snprintf(key, sizeof key, "flag-%u", i * 7919u % 2000u);
        take(&overlay, RUNTIME_SET, key, BOOLEAN);
    }
    assert_int_equal(overlay.count, 2000);
    for (unsigned i = 0; i < 2000; i++) {
        snprintf(key, sizeof key, "flag-%u", i);
        assert_non_null(runtime_overlay_find(&overlay, slice_of(key)));
    }
    for (uint32_t i = 1; i < overlay.count; i++)
        assert_true(strcmp(overlay.entries[i - 1].key, overlay.entries[i].key) < 0);
    runtime_overlay_deinit(&overlay);
}

TEST(the_journal_form)
{
    static uint8_t bytes[RUNTIME_OVERLAY_WIRE_BYTES_MAX];
    struct runtime_change change = {.op = RUNTIME_SET,
                                    .key = "new \"banner\"",
                                    .definition = slice_of(BOOLEAN),
                                    .who = "ann",
                                    .from = "[::1]:7"};
    struct wire_writer writer = {.data = bytes, .cap = sizeof bytes};
    runtime_overlay_encode(&change, &writer);
    assert_false(writer.full);
    struct runtime_overlay_texts texts;
    struct runtime_change back;
    struct slice payload = {(const char *)bytes, writer.len};
    assert_int_equal(runtime_overlay_decode(payload, &texts, &back), STATUS_OK);
    assert_int_equal(back.op, RUNTIME_SET);
    assert_string_equal(back.key, change.key);
    assert_true(slice_equal(back.definition, change.definition));
    assert_string_equal(back.variant, "");
    assert_string_equal(back.who, "ann");
    for (size_t cut = 0; cut < writer.len; cut++)
        assert_int_equal(runtime_overlay_decode((struct slice){(const char *)bytes, cut}, &texts, &back),
                         STATUS_CORRUPT);
    bytes[1] = RUNTIME_UNSET + 1; // an operation of a later version
    assert_int_equal(runtime_overlay_decode(payload, &texts, &back), STATUS_CORRUPT);
}

TEST(the_document_compiles)
{
    struct runtime_overlay overlay = {.count = 0};
    take(&overlay, RUNTIME_SET, "quote\" and \\ and \x01", BOOLEAN);
    take(&overlay, RUNTIME_SET, "plain", BOOLEAN);
    take(&overlay, RUNTIME_OFF, "elsewhere", NULL); // no definition: a patch alone
    char *json;
    size_t len;
    assert_int_equal(runtime_overlay_document(&overlay, &json, &len), STATUS_OK);
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
    runtime_overlay_deinit(&overlay);
}

TEST(the_history_keeps_the_newest)
{
    struct runtime_overlay overlay = {.count = 0};
    for (unsigned i = 0; i < RUNTIME_CHANGES_KEPT + 5; i++)
        take(&overlay, RUNTIME_OFF, "f", "off");
    assert_int_equal(overlay.changes, RUNTIME_CHANGES_KEPT + 5);
    assert_int_equal(overlay.history[0].number, RUNTIME_CHANGES_KEPT + 1);
    assert_int_equal(overlay.history[5].number, 6);
    runtime_overlay_deinit(&overlay);
}

// What stands in the journal must fit into a start: definitions together have a bound.
TEST(definitions_are_bounded_together)
{
    struct runtime_overlay overlay = {.count = 0};
    char *text = heap_alloc(1, RUNTIME_DEFINITION_BYTES);
    assert_non_null(text);
    memset(text, ' ', RUNTIME_DEFINITION_BYTES);
    struct runtime_change change = {.op = RUNTIME_SET, .who = "ann", .from = "here"};
    change.definition = (struct slice){text, RUNTIME_DEFINITION_BYTES};
    char key[16];
    change.key = key;
    enum status status = STATUS_OK;
    uint32_t i = 0;
    for (; i < 1000 && status == STATUS_OK; i++) {
        snprintf(key, sizeof key, "flag-%u", i);
        status = runtime_overlay_room(&overlay, &change);
        if (status == STATUS_OK)
            assert_int_equal(runtime_overlay_take(&overlay, &change, i, 0), STATUS_OK);
    }
    assert_int_equal(status, STATUS_FULL);
    assert_int_equal(overlay.count, RUNTIME_OVERLAY_BYTES_MAX / RUNTIME_DEFINITION_BYTES);
    // One that is there already may be replaced, a switch needs no room, and what is taken away makes some.
    snprintf(key, sizeof key, "flag-1");
    assert_int_equal(runtime_overlay_room(&overlay, &change), STATUS_OK);
    take(&overlay, RUNTIME_OFF, "other", NULL);
    take(&overlay, RUNTIME_UNSET, "flag-1", NULL);
    snprintf(key, sizeof key, "new");
    assert_int_equal(runtime_overlay_room(&overlay, &change), STATUS_OK);
    heap_free(text);
    runtime_overlay_deinit(&overlay);
}
