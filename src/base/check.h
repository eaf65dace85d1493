// SPDX-License-Identifier: Apache-2.0
// CHECK tests an invariant of the program itself, in release builds too; when it is broken, the process
// aborts with a message. Never CHECK input: what a peer or a user can cause is an enum status.
#pragma once

#include <stdnoreturn.h>

noreturn void check_failed(const char *expression, const char *file, int line);

#define CHECK(expression)                                                                                    \
    (__builtin_expect(!(expression), 0) ? check_failed(#expression, __FILE__, __LINE__) : (void)0)

// Runs function(&variable) when the variable's scope ends. Cleanup functions take a pointer to the variable.
#define DEFER(function) __attribute__((cleanup(function)))

#define ARRAY_LEN(array) (sizeof(array) / sizeof((array)[0]))
#define CONTAINER_OF(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
