// SPDX-License-Identifier: Apache-2.0
/*
 * Random names for containers that are given none
 *
 * An adjective and an animal: 64 × 64 pairs. They are easy to say and to type, and need not be
 * unique: who makes a container tries another when the daemon says that the name is taken.
 */
#include <stdint.h>
#include <stdio.h>
#include <sys/random.h>
#include <time.h>

#include "cli/create.h"

static const char adjectives[64][10] = {
	"able",	  "amber",  "ample",  "awake",	"bold",	  "brave", "breezy",  "bright",
	"brisk",  "calm",   "candid", "clever", "coral",  "cosy",  "crisp",   "curious",
	"daring", "deft",   "eager",  "early",	"fair",	  "fleet", "fond",    "frank",
	"fresh",  "gentle", "glad",   "golden", "grand",  "happy", "hardy",   "honest",
	"humble", "jolly",  "keen",   "kind",	"lively", "loyal", "lucid",   "lucky",
	"mellow", "merry",  "mild",   "neat",	"nimble", "noble", "patient", "placid",
	"plucky", "polite", "proud",  "quick",	"quiet",  "rapid", "ready",   "serene",
	"silver", "steady", "sunny",  "swift",	"tidy",	  "vivid", "warm",    "witty",
};

static const char animals[64][10] = {
	"badger",  "beaver", "bison", "bittern", "bobcat", "buzzard", "caribou", "cheetah",
	"civet",   "condor", "coot",  "crane",	 "curlew", "dingo",   "dipper",	 "dove",
	"dunlin",  "egret",  "eider", "falcon",	 "ferret", "finch",   "gannet",	 "gecko",
	"gibbon",  "grouse", "hare",  "heron",	 "ibex",   "ibis",    "jackal",	 "jay",
	"kestrel", "kite",   "koala", "lapwing", "lemur",  "linnet",  "lynx",	 "magpie",
	"marten",  "merlin", "mole",  "moose",	 "newt",   "ocelot",  "osprey",	 "otter",
	"oryx",	   "petrel", "pipit", "plover",	 "puffin", "quail",   "raven",	 "robin",
	"sable",   "seal",   "stork", "swan",	 "tapir",  "tern",    "vole",	 "wren",
};

static uint64_t random_bits(void)
{
	struct timespec ts;
	uint64_t v;

	if (getrandom(&v, sizeof(v), 0) == sizeof(v))
		return v;
	/* Only uniqueness is wanted, which the daemon checks. */
	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_nsec * 2654435761u ^ (uint64_t)ts.tv_sec;
}

void create_random_name(char *buf, size_t size)
{
	uint64_t v = random_bits();

	snprintf(buf, size, "%s_%s", adjectives[v % 64], animals[v / 64 % 64]);
}

void create_random_id(char *buf, size_t size)
{
	snprintf(buf, size, "%012llx", (unsigned long long)(random_bits() & 0xffffffffffffull));
}
