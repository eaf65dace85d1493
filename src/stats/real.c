// SPDX-License-Identifier: Apache-2.0
// Logarithm, exponential and log-gamma by range reduction and series. No table, no library call, no fused
// operation: the bits depend on IEEE 754 alone.
#include "stats/real.h"

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/check.h"

// ln 2 in two parts; the first has 21 zero bits at its end, so that a small integer times it is exact.
static const double LN2_HIGH = 0x1.62e42fee00000p-1;
static const double LN2_LOW = 0x1.a39ef35793c76p-33;
// A product is many times cheaper than a quotient, and most of a verdict's time is spent here.
static const double INVERSE[14] = {0.0,     1.0,     1.0 / 2, 1.0 / 3,  1.0 / 4,  1.0 / 5,  1.0 / 6,
                                   1.0 / 7, 1.0 / 8, 1.0 / 9, 1.0 / 10, 1.0 / 11, 1.0 / 12, 1.0 / 13};
static const double LN_SQRT_2PI = 0.91893853320467274178;

double stats_ln(double x)
{
    CHECK(x >= DBL_MIN && x <= DBL_MAX);
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    int exponent = (int)(bits >> 52) - 1023;
    bits = (bits & ((UINT64_C(1) << 52) - 1)) | (UINT64_C(1023) << 52);
    double mantissa;
    memcpy(&mantissa, &bits, sizeof mantissa);
    if (mantissa > 1.4142135623730951) {
        mantissa *= 0.5;
        exponent++;
    }
    // ln(1 + f) = 2·artanh(s), s = f / (2 + f); written as f minus a small correction so that f keeps all its
    // bits.
    double f = mantissa - 1.0;
    double s = f / (2.0 + f);
    double z = s * s;
    double series = 0.0;
    for (int i = 23; i >= 3; i -= 2)
        series = series * z + 2.0 / i;
    double half_square = 0.5 * f * f;
    double correction = half_square - (s * (half_square + series * z) + exponent * LN2_LOW);
    return exponent * LN2_HIGH + (f - correction);
}

double stats_exp(double x)
{
    if (x < -708.0)
        return 0.0;
    if (x > 709.0)
        return DBL_MAX;
    int power = (int)(x * 1.4426950408889634 + (x < 0.0 ? -0.5 : 0.5));
    double r = (x - power * LN2_HIGH) - power * LN2_LOW;
    double sum = 1.0;
    for (int i = 13; i >= 1; i--)
        sum = 1.0 + sum * (r * INVERSE[i]);
    uint64_t bits = (uint64_t)(power + 1023) << 52;
    double scale;
    memcpy(&scale, &bits, sizeof scale);
    return sum * scale;
}

double stats_ln_gamma(double x)
{
    CHECK(x >= DBL_MIN && x <= DBL_MAX);
    double product = 1.0;
    while (x < 16.0) {
        product *= x;
        x += 1.0;
    }
    double inverse = 1.0 / x;
    double square = inverse * inverse;
    double series = 1.0 / 1188.0;
    series = series * square - 1.0 / 1680.0;
    series = series * square + 1.0 / 1260.0;
    series = series * square - 1.0 / 360.0;
    series = series * square + 1.0 / 12.0;
    return (x - 0.5) * stats_ln(x) - x + LN_SQRT_2PI + series * inverse - stats_ln(product);
}

double stats_log_mean_exp(const double *values, size_t count)
{
    CHECK(count > 0);
    double largest = values[0];
    for (size_t i = 1; i < count; i++)
        largest = values[i] > largest ? values[i] : largest;
    if (!(largest >= -DBL_MAX && largest <= DBL_MAX))
        return largest;
    double sum = 0.0;
    for (size_t i = 0; i < count; i++)
        sum += stats_exp(values[i] - largest);
    return largest + stats_ln(sum / (double)count);
}

double stats_log_weighted_mean_exp(const double *values, const double *weights, size_t count)
{
    double largest = (double)-INFINITY;
    double total = 0.0;
    for (size_t i = 0; i < count; i++) {
        CHECK(weights[i] >= 0.0);
        total += weights[i];
        if (weights[i] > 0.0 && values[i] > largest)
            largest = values[i];
    }
    CHECK(total > 0.0);
    if (!(largest >= -DBL_MAX && largest <= DBL_MAX))
        return largest;
    double sum = 0.0;
    for (size_t i = 0; i < count; i++) {
        if (weights[i] > 0.0)
            sum += weights[i] * stats_exp(values[i] - largest);
    }
    return largest + stats_ln(sum / total);
}
