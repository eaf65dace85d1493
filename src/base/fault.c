// SPDX-License-Identifier: Apache-2.0
#include "base/fault.h"

#include <stdarg.h>
#include <stdio.h>

enum status fault_set(struct fault *fault, enum status status, const char *format, ...)
{
    fault->status = status;
    fault->line = fault->column = 0;
    fault->entry = 0;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(fault->text, sizeof fault->text, format, arguments);
    va_end(arguments);
    return status;
}
