// SPDX-License-Identifier: Apache-2.0
/*
 * Times as text: RFC 3339
 *
 * Read by hand: strptime depends on the locale and knows neither fractions nor offsets with a colon.
 * A leap second (":60") counts as the second after it, as clocks have it. Digits beyond nanoseconds
 * are read and dropped.
 */
#include "util/rfc3339.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#define NS_PER_SEC 1000000000ll

/* n digits at *p, which moves behind them; -1 when there are not so many */
static int number(const char **p, int n)
{
	int v = 0;

	for (; n; n--, (*p)++) {
		if (**p < '0' || **p > '9')
			return -1;
		v = v * 10 + (**p - '0');
	}
	return v;
}

static bool skip(const char **p, char a, char b)
{
	if (**p != a && **p != b)
		return false;
	(*p)++;
	return true;
}

static int days_of(int year, int month)
{
	static const int days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };

	if (month == 2 && (year % 4 == 0 && (year % 100 || year % 400 == 0)))
		return 29;
	return days[month - 1];
}

/* "Z", "+hh:mm", "-hh:mm" and the end of the text: seconds east of Greenwich */
static bool offset(const char *p, int64_t *seconds)
{
	bool west = *p == '-';
	int h, m;

	*seconds = 0;
	if (skip(&p, 'Z', 'z'))
		return !*p;
	if (!skip(&p, '+', '-'))
		return false;
	h = number(&p, 2);
	if (h < 0 || h > 23 || !skip(&p, ':', ':'))
		return false;
	m = number(&p, 2);
	if (m < 0 || m > 59)
		return false;
	*seconds = (west ? -1 : 1) * (h * 3600 + m * 60);
	return !*p;
}

int rfc3339_parse(const char *text, int64_t *ns)
{
	const char *p = text;
	struct tm tm = { 0 };
	int64_t fraction = 0, seconds, east;

	tm.tm_year = number(&p, 4);
	if (tm.tm_year < 0 || !skip(&p, '-', '-'))
		return -EINVAL;
	tm.tm_mon = number(&p, 2);
	if (tm.tm_mon < 1 || tm.tm_mon > 12 || !skip(&p, '-', '-'))
		return -EINVAL;
	tm.tm_mday = number(&p, 2);
	if (tm.tm_mday < 1 || tm.tm_mday > days_of(tm.tm_year, tm.tm_mon) || !skip(&p, 'T', 't'))
		return -EINVAL;
	tm.tm_hour = number(&p, 2);
	if (tm.tm_hour < 0 || tm.tm_hour > 23 || !skip(&p, ':', ':'))
		return -EINVAL;
	tm.tm_min = number(&p, 2);
	if (tm.tm_min < 0 || tm.tm_min > 59 || !skip(&p, ':', ':'))
		return -EINVAL;
	tm.tm_sec = number(&p, 2);
	if (tm.tm_sec < 0 || tm.tm_sec > 60)
		return -EINVAL;
	if (skip(&p, '.', '.')) {
		int64_t unit = NS_PER_SEC / 10;

		if (*p < '0' || *p > '9')
			return -EINVAL;
		for (; *p >= '0' && *p <= '9'; p++, unit /= 10)
			fraction += (*p - '0') * unit;
	}
	if (!offset(p, &east))
		return -EINVAL;
	tm.tm_year -= 1900;
	tm.tm_mon--;
	seconds = (int64_t)timegm(&tm) - east;
	if (__builtin_mul_overflow(seconds, NS_PER_SEC, ns) ||
	    __builtin_add_overflow(*ns, fraction, ns))
		*ns = seconds < 0 ? INT64_MIN : INT64_MAX;
	return 0;
}
