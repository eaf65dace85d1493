// SPDX-License-Identifier: Apache-2.0
// Runs the tests of one module:  <module>_test [suite [test]]  or  --list. Without words: all of them. Words
// that choose nothing are an error, so that a test can not pass by not being there.
#include "test.h"

enum { SUITE_TESTS_MAX = 256 };

static struct test *tests; // by file, then by line
static struct test_fixture *each, *all;

// As __FILE__ is a path, and the suites of a module lie in one folder, their order is that of their names.
void suite_add_test(struct test *test)
{
    struct test **at = &tests;
    for (; *at != NULL; at = &(*at)->next) {
        int order = strcmp((*at)->file, test->file);
        if (order > 0 || (order == 0 && (*at)->line > test->line))
            break;
    }
    test->next = *at;
    *at = test;
}

void suite_add_each(struct test_fixture *fixture)
{
    fixture->next = each;
    each = fixture;
}

void suite_add_all(struct test_fixture *fixture)
{
    fixture->next = all;
    all = fixture;
}

static struct test_fixture fixture_of(const struct test_fixture *fixtures, const char *file)
{
    for (; fixtures != NULL; fixtures = fixtures->next)
        if (strcmp(fixtures->file, file) == 0)
            return *fixtures;
    return (struct test_fixture){0};
}

// In a buffer that the next call uses again.
static const char *suite_of(const char *file)
{
    static char name[128];
    const char *slash = strrchr(file, '/');
    snprintf(name, sizeof name, "%s", slash != NULL ? slash + 1 : file);
    char *end = strstr(name, "_test.c");
    if (end != NULL)
        *end = '\0';
    return name;
}

// Runs the tests of a file that have the name, or all for NULL. Adds their number to *ran.
static int run_suite(const char *file, const char *name, size_t *ran)
{
    struct CMUnitTest chosen[SUITE_TESTS_MAX];
    struct test_fixture around_each = fixture_of(each, file);
    struct test_fixture around_all = fixture_of(all, file);
    size_t count = 0;
    for (const struct test *test = tests; test != NULL; test = test->next) {
        if (strcmp(test->file, file) != 0 || (name != NULL && strcmp(test->name, name) != 0))
            continue;
        if (count == SUITE_TESTS_MAX) {
            fprintf(stderr, "%s: more than %d tests\n", file, SUITE_TESTS_MAX);
            return 1;
        }
        chosen[count++] = (struct CMUnitTest){.name = test->name,
                                              .test_func = test->function,
                                              .setup_func = around_each.set_up,
                                              .teardown_func = around_each.tear_down};
    }
    *ran += count;
    if (count == 0)
        return 0;
    return _cmocka_run_group_tests(suite_of(file), chosen, count, around_all.set_up, around_all.tear_down);
}

static void list(void)
{
    for (const struct test *test = tests; test != NULL; test = test->next)
        printf("%s %s\n", suite_of(test->file), test->name);
}

int main(int argc, char **argv)
{
    const char *suite = argc > 1 ? argv[1] : NULL;
    const char *name = argc > 2 ? argv[2] : NULL;
    const char *file = NULL;
    size_t ran = 0;
    int failed = 0;
    if (argc > 3) {
        fprintf(stderr, "usage: %s [--list | suite [test]]\n", argv[0]);
        return 2;
    }
    if (suite != NULL && strcmp(suite, "--list") == 0) {
        list();
        return tests != NULL ? 0 : 1;
    }
    for (const struct test *test = tests; test != NULL; test = test->next) {
        if (file != NULL && strcmp(file, test->file) == 0)
            continue;
        file = test->file;
        if (suite == NULL || strcmp(suite_of(file), suite) == 0)
            failed += run_suite(file, name, &ran) != 0;
    }
    if (ran == 0) {
        fprintf(stderr, "%s: no test is called \"%s%s%s\"; --list names them\n", argv[0],
                suite != NULL ? suite : "", name != NULL ? " " : "", name != NULL ? name : "");
        return 2;
    }
    return failed != 0;
}
