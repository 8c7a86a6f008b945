// SPDX-License-Identifier: Apache-2.0
/*
 * Specs: text as config.json, and what begins as a msgpack map as that.
 *
 * Beside memory errors it finds: a text that the scanner takes and json-c does not; a tree that does not
 * survive the way through msgpack, or that parses once and not again; strings of a spec that are not what they promise.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/scan.h"
#include "runtime/seccomp.h"
#include "runtime/spec.h"
#include "util/json.h"
#include "util/limits.h"
#include "util/mp.h"

#define SECCOMP_SYSCALLS 24 /* larger profiles cost libseccomp milliseconds */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int ok)
{
	if (!ok)
		abort();
}

static size_t text(const char *s)
{
	return s ? strlen(s) : 0;
}

static size_t texts(const struct spec_strs *s)
{
	size_t n = 0;

	for (size_t i = 0; i < s->n; i++)
		n += strlen(s->v[i]);
	must(!s->v || !s->v[s->n]);
	return n;
}

/* Reads all that a spec points to. */
static size_t walk(const struct spec *s)
{
	const struct spec_process *p = &s->process;
	size_t n = texts(&p->args) + texts(&p->env) + text(p->apparmor_profile) +
		   text(p->selinux_label) + texts(&p->exec_cpu_affinity);

	must(!s->has_process || (p->args.n && p->cwd[0] == '/'));
	for (size_t i = 0; i < p->n_rlimits; i++)
		must(p->rlimits[i].soft <= p->rlimits[i].hard);
	for (size_t i = 0; i < p->n_additional_gids; i++)
		must(p->additional_gids[i] != (gid_t)-1);
	for (size_t i = 0; i < s->n_mounts; i++) {
		must(s->mounts[i].destination[0] == '/');
		n += text(s->mounts[i].type) + text(s->mounts[i].source) +
		     texts(&s->mounts[i].options) + text(s->mounts[i].destination);
		must(!s->mounts[i].uid_mappings.n == !s->mounts[i].gid_mappings.n);
	}
	for (int k = 0; k < SPEC_HOOK_KINDS; k++)
		for (size_t i = 0; i < s->hooks[k].n; i++) {
			must(s->hooks[k].v[i].path[0] == '/');
			n += texts(&s->hooks[k].v[i].args) + texts(&s->hooks[k].v[i].env);
		}
	must(s->annotations.n % 2 == 0);
	n += texts(&s->annotations);
	for (int k = 0; k < SPEC_NS_KINDS; k++)
		must(!s->ns[k].path || (s->ns[k].given && s->ns[k].path[0] == '/'));
	for (size_t i = 0; i < s->n_devices; i++)
		must(s->devices[i].path[0] == '/');
	for (size_t i = 0; i < s->n_net_devices; i++)
		n += text(s->net_devices[i].host_name) + text(s->net_devices[i].name);
	for (size_t i = 0; i < s->n_sysctl; i++)
		n += text(s->sysctl[i].key) + text(s->sysctl[i].value);
	for (size_t i = 0; i < s->n_device_rules; i++)
		must(strchr("abc", s->device_rules[i].type) != NULL);
	return n + texts(&s->masked_paths) + texts(&s->readonly_paths) + text(s->cgroups_path) +
	       text(s->mount_label) + text(s->hostname) + text(s->domainname);
}

static void try_seccomp(json_object *profile)
{
	struct seccomp_program *p;
	struct fault f = { 0 };
	json_object *calls;

	if (json_object_object_get_ex(profile, "syscalls", &calls) &&
	    json_object_is_type(calls, json_type_array))
		for (size_t i = 0; i < json_object_array_length(calls); i++) {
			json_object *names;

			if (i >= SECCOMP_SYSCALLS)
				return;
			if (json_object_object_get_ex(json_object_array_get_idx(calls, i), "names",
						      &names) &&
			    json_object_is_type(names, json_type_array) &&
			    json_object_array_length(names) > SECCOMP_SYSCALLS)
				return;
		}
	if (seccomp_get(NULL, profile, &p, &f)) {
		must(f.code != FAULT_NONE && f.message[0]);
		return;
	}
	must(p->code && p->length && (!p->notify || p->listener_path));
	seccomp_put(p);
}

static void try_spec(json_object *j)
{
	struct fault f = { 0 };
	struct spec *s, *again;
	size_t n;

	if (spec_parse(j, &s, &f)) {
		must(!s && f.code != FAULT_NONE && f.message[0]);
	} else {
		n = walk(s);
		must(!spec_parse(j, &again, &f));
		must(walk(again) == n);
		spec_free(again);
		must(!s->resources || !spec_check_resources(s->resources, &f));
		if (s->seccomp)
			try_seccomp(s->seccomp);
		spec_free(s);
	}
	if (!spec_parse_process(j, &s, &f)) {
		walk(s);
		spec_free(s);
	}
	spec_check_resources(j, &f);
}

static int from_bytes(const void *data, size_t size, json_object **j, struct fault *f)
{
	msgpack_zone zone;
	msgpack_object o;
	struct scan scan;
	size_t frame, off = 0;
	int r = -1;

	/* As for every message, nothing is unpacked that the scanner has not seen. */
	scan_reset(&scan);
	if (scan_frame(&scan, data, size, LIMIT_FRAME_BYTES, &frame) || frame != size)
		return -1;
	if (!msgpack_zone_init(&zone, 4096))
		return -1;
	if (msgpack_unpack(data, size, &off, &zone, &o) == MSGPACK_UNPACK_SUCCESS)
		r = json_from_mp(&o, j, f);
	msgpack_zone_destroy(&zone);
	return r;
}

/* What became JSON has to come back equal. */
static void try_round_trip(json_object *j)
{
	msgpack_sbuffer sb;
	msgpack_packer pk;
	json_object *back;
	struct fault f = { 0 };

	msgpack_sbuffer_init(&sb);
	mp_packer_init(&pk, &sb);
	json_to_mp(j, &pk);
	must(!mp_failed(&sb));
	/* msgpack frames are flatter than JSON texts may be. */
	if (!from_bytes(sb.data, sb.size, &back, &f)) {
		must(json_object_equal(j, back));
		json_object_put(back);
	}
	msgpack_sbuffer_destroy(&sb);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fault f = { 0 };
	struct spec *s;
	json_object *j;

	if (size && data[0] >= 0x80) {
		if (from_bytes(data, size, &j, &f))
			return 0;
		try_round_trip(j);
		try_spec(j);
		json_object_put(j);
		return 0;
	}
	if (!spec_parse_text((const char *)data, size, &s, &f))
		spec_free(s);
	if (json_parse((const char *)data, size, &j, &f)) {
		must(!j && !strncmp(f.message, "line ", 5));
		return 0;
	}
	try_round_trip(j);
	try_spec(j);
	json_object_put(j);
	return 0;
}
