// SPDX-License-Identifier: Apache-2.0
// Elementary functions from additions, multiplications and divisions only, so that a verdict replayed on
// another machine, compiler or C library has the same bits. Error below 4 ulp in the stated ranges.
#pragma once

#include <stddef.h>

// Natural logarithm. x must be finite, normal and > 0 (CHECK).
double stats_ln(double x);

// e^x. Below -708 returns 0; above 709 returns the largest finite value (never infinity).
double stats_exp(double x);

// ln Γ(x) for x > 0 (CHECK): recurrence up to 16, then Stirling's series. Relative error below 1e-14 away
// from the zeros at 1 and 2, absolute error below 1e-13 near them.
double stats_ln_gamma(double x);

// ln of the mean of e^values[i], i < count, count > 0. Values are finite or -infinity.
double stats_log_mean_exp(const double *values, size_t count);

// ln Σ weights[i]·e^values[i]: the weighted average of e-processes taken at one instant (an average of
// e-processes is one; never pass running maxima). weights >= 0 with a positive sum; they are normalised to
// sum 1 here. A value with weight 0 is ignored, whatever it is.
double stats_log_weighted_mean_exp(const double *values, const double *weights, size_t count);
