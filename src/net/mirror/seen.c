// SPDX-License-Identifier: Apache-2.0
#include "net/mirror/seen.h"

#include "base/slice.h"
