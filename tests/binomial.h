// SPDX-License-Identifier: Apache-2.0
// Whether a count is what chance makes of a share.
#pragma once

#include <math.h>
#include <stdbool.h>

// The probability that a binomial(n, p) count is at most k, by summing its terms; exact up to rounding.
static inline double binomial_cdf(double n, double p, double k)
{
    double sum = 0;
    for (double i = k; i >= 0; i--) {
        double term =
            exp(lgamma(n + 1) - lgamma(i + 1) - lgamma(n - i + 1) + i * log(p) + (n - i) * log1p(-p));
        sum += term;
        if (term < 1e-18 && i < n * p)
            break;
    }
    return sum;
}

// Neither tail beyond the count is rarer than one in ten thousand.
static inline bool binomial_fits(double n, double p, double count)
{
    return binomial_cdf(n, p, count) > 1e-4 && 1 - binomial_cdf(n, p, count - 1) > 1e-4;
}
