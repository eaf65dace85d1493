// SPDX-License-Identifier: Apache-2.0
// TEST(name) { ... } is a test. It registers itself before main runs. tests/unit/main.c finds it by its name
// and its suite, which is the name of the file without "_test.c". Assertions are those of cmocka.
//
//   EACH_TEST(set_up, tear_down);   // around each test of this file
//   ALL_TESTS(set_up, tear_down);   // once before the first and after the last test of this file
//
// Both functions are `int f(void **state)` and return 0 on success; NULL means none. The test gets what
// set_up puts into *state as its own `state`.
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// cmocka.h needs the headers above but does not include them.
#include <cmocka.h>

struct test {
    const char *file;
    int line;
    const char *name;
    CMUnitTestFunction function;
    struct test *next;
};

struct test_fixture {
    const char *file;
    CMFixtureFunction set_up, tear_down;
    struct test_fixture *next;
};

void suite_add_test(struct test *test);
void suite_add_each(struct test_fixture *fixture);
void suite_add_all(struct test_fixture *fixture);

#define TEST(name_)                                                                                          \
    static void test_##name_(void **state);                                                                  \
    __attribute__((constructor)) static void add_test_##name_(void)                                          \
    {                                                                                                        \
        static struct test test_added = {__FILE__, __LINE__, #name_, test_##name_, NULL};                    \
        suite_add_test(&test_added);                                                                         \
    }                                                                                                        \
    static void test_##name_(void **state __attribute__((unused)))

#define EACH_TEST(set_up_, tear_down_) SUITE_FIXTURE(each, set_up_, tear_down_)
#define ALL_TESTS(set_up_, tear_down_) SUITE_FIXTURE(all, set_up_, tear_down_)
#define SUITE_FIXTURE(which_, set_up_, tear_down_)                                                           \
    __attribute__((constructor)) static void add_fixture_of_##which_(void)                                   \
    {                                                                                                        \
        static struct test_fixture fixture_added = {__FILE__, set_up_, tear_down_, NULL};                    \
        suite_add_##which_(&fixture_added);                                                                  \
    }                                                                                                        \
    struct test_fixture // the macro is used with a semicolon after it
