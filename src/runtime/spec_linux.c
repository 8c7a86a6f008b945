// SPDX-License-Identifier: Apache-2.0
/*
 * The spec's `linux` section: config-linux.md, all but resources
 *
 * Fields that need a namespace of their own (sysctls, time offsets, id maps, network devices) are refused when the
 * namespace is not listed: without it they would change the host.
 */
#include <string.h>
#include <sys/personality.h>

#include "runtime/spec_internal.h"
#include "util/cleanup.h"

#define NS_PER_SEC 1000000000u
#define NODES (sizeof(((struct spec *)0)->memory_policy.nodes) * 8)
#define IFNAME_MAX 15u /* IFNAMSIZ without the NUL */
#define MAJOR_MAX 0xfff /* dev_t inside the kernel: 12 and 20 bits */
#define MINOR_MAX 0xfffff
#define PERMISSIONS 07777
#define MPOL_DEFAULT 0
#define MPOL_PREFERRED 1
#define MPOL_BIND 2
#define MPOL_LOCAL 4
#define MPOL_PREFERRED_MANY 5
#define MPOL_F_NUMA_BALANCING (1 << 13)
#define MPOL_F_RELATIVE_NODES (1 << 14)
#define MPOL_F_STATIC_NODES (1 << 15)

static const struct spec_word personalities[] = {
	{ "LINUX", PER_LINUX },
	{ "LINUX32", PER_LINUX32 },
};

static void read_namespaces(struct spec_reader *r, const struct spec_node *at, struct spec *s)
{
	struct spec_node array, item;
	size_t n = spec_array(r, at, "namespaces", &array);

	for (size_t i = 0; i < n && spec_item(r, &array, i, &item); i++) {
		int64_t kind = 0;

		spec_require(r, &item, "type",
			     spec_word(r, &item, "type", spec_namespace_words, spec_namespace_count,
				       "namespace", &kind));
		if (r->err)
			return;
		if (s->ns[kind].given)
			spec_fail(r, &item, "type", "the %s namespace is given a second time",
				  spec_ns_name((enum spec_ns_kind)kind));
		s->ns[kind].given = true;
		spec_path(r, &item, "path", &s->ns[kind].path);
	}
}

void spec_read_idmaps(struct spec_reader *r, const struct spec_node *at, const char *key,
		      struct spec_idmaps *out)
{
	struct spec_node array, item;
	size_t n = spec_array(r, at, key, &array);

	if (!n)
		return;
	out->v = spec_alloc(r, n, sizeof(*out->v));
	for (size_t i = 0; i < n && spec_item(r, &array, i, &item); i++) {
		struct spec_idmap *m = &out->v[i];

		spec_require(r, &item, "containerID",
			     spec_u32(r, &item, "containerID", UINT32_MAX, &m->container_id));
		spec_require(r, &item, "hostID",
			     spec_u32(r, &item, "hostID", UINT32_MAX, &m->host_id));
		spec_require(r, &item, "size", spec_u32(r, &item, "size", UINT32_MAX, &m->size));
		if (r->err)
			return;
		if (!m->size)
			spec_fail(r, &item, "size", "must not be 0");
		if (m->container_id > UINT32_MAX - m->size || m->host_id > UINT32_MAX - m->size)
			spec_fail(r, &item, "size", "the range ends beyond the last id");
	}
	out->n = n;
}

static void read_user_namespace(struct spec_reader *r, const struct spec_node *at, struct spec *s)
{
	const struct spec_ns *user = &s->ns[SPEC_NS_USER];

	spec_read_idmaps(r, at, "uidMappings", &s->uid_mappings);
	spec_read_idmaps(r, at, "gidMappings", &s->gid_mappings);
	if (!user->given && s->uid_mappings.n)
		spec_fail(r, at, "uidMappings", "needs a user namespace");
	if (!user->given && s->gid_mappings.n)
		spec_fail(r, at, "gidMappings", "needs a user namespace");
	if (user->given && !user->path && !s->uid_mappings.n)
		spec_fail(r, at, "uidMappings", "a new user namespace needs one");
	if (user->given && !user->path && !s->gid_mappings.n)
		spec_fail(r, at, "gidMappings", "a new user namespace needs one");
}

static void read_time_offsets(struct spec_reader *r, const struct spec_node *at, struct spec *s)
{
	static const struct spec_word clocks[] = { { "monotonic", 0 }, { "boottime", 1 } };
	struct spec_node map, clock;
	struct lh_entry *e = NULL;

	if (!spec_object(r, at, "timeOffsets", &map))
		return;
	while (spec_entry(&map, &e, &clock) && spec_entry_object(r, &clock)) {
		size_t i = 0;

		while (i < ARRAY_SIZE(clocks) && strcmp(clocks[i].name, clock.name))
			i++;
		if (i == ARRAY_SIZE(clocks)) {
			spec_fail(r, &clock, NULL, "no such clock: monotonic or boottime");
			return;
		}
		s->time_offsets[i].given = true;
		spec_int(r, &clock, "secs", INT64_MIN, INT64_MAX, &s->time_offsets[i].secs);
		spec_u32(r, &clock, "nanosecs", NS_PER_SEC - 1, &s->time_offsets[i].nanosecs);
	}
	if ((s->time_offsets[0].given || s->time_offsets[1].given) && !s->ns[SPEC_NS_TIME].given)
		spec_fail(r, &map, NULL, "needs a time namespace");
}

static void read_devices(struct spec_reader *r, const struct spec_node *at, struct spec *s)
{
	static const struct spec_word types[] = {
		{ "b", 'b' },
		{ "c", 'c' },
		{ "u", 'u' },
		{ "p", 'p' },
	};
	struct spec_node array, item;
	size_t n = spec_array(r, at, "devices", &array);

	if (!n)
		return;
	s->devices = spec_alloc(r, n, sizeof(*s->devices));
	for (size_t i = 0; i < n && spec_item(r, &array, i, &item); i++) {
		struct spec_device *d = &s->devices[i];
		int64_t type = 0;
		bool node;

		d->file_mode = d->uid = d->gid = SPEC_ABSENT;
		spec_require(r, &item, "path", spec_path(r, &item, "path", &d->path));
		spec_require(r, &item, "type",
			     spec_word(r, &item, "type", types, ARRAY_SIZE(types), "device type",
				       &type));
		d->type = (char)type;
		node = type != 'p';
		if (!spec_int(r, &item, "major", node ? 0 : INT64_MIN, node ? MAJOR_MAX : INT64_MAX,
			      &d->major) &&
		    node)
			spec_fail(r, &item, "major", "is missing");
		if (!spec_int(r, &item, "minor", node ? 0 : INT64_MIN, node ? MINOR_MAX : INT64_MAX,
			      &d->minor) &&
		    node)
			spec_fail(r, &item, "minor", "is missing");
		/* Some tools put the file's type into the mode. */
		if (spec_int(r, &item, "fileMode", 0, UINT32_MAX, &d->file_mode))
			d->file_mode &= PERMISSIONS;
		spec_int(r, &item, "uid", 0, UINT32_MAX - 1, &d->uid);
		spec_int(r, &item, "gid", 0, UINT32_MAX - 1, &d->gid);
	}
	if (!r->err)
		s->n_devices = n;
}

/* As dev_valid_name() of the kernel; '%' would be taken for a template. */
static bool interface_name_valid(const char *name)
{
	size_t n = strlen(name);

	return n && n <= IFNAME_MAX && strcmp(name, ".") && strcmp(name, "..") &&
	       strcspn(name, "/:% \t\n\v\f\r") == n;
}

static void read_net_devices(struct spec_reader *r, const struct spec_node *at, struct spec *s)
{
	struct spec_node map, entry;
	struct lh_entry *e = NULL;
	size_t n = 0;

	if (!spec_object(r, at, "netDevices", &map) || !json_object_object_length(map.json))
		return;
	if (!s->ns[SPEC_NS_NETWORK].given)
		spec_fail(r, &map, NULL, "needs a network namespace");
	s->net_devices = spec_alloc(r, (size_t)json_object_object_length(map.json),
				    sizeof(*s->net_devices));
	while (!r->err && spec_entry(&map, &e, &entry) && spec_entry_object(r, &entry)) {
		struct spec_net_device *d = &s->net_devices[n++];

		d->host_name = spec_copy(r, entry.name, strlen(entry.name));
		spec_text(r, &entry, "name", &d->name);
		if (!interface_name_valid(entry.name))
			spec_fail(r, &entry, NULL, "no name of a network interface");
		if (d->name && !interface_name_valid(d->name))
			spec_fail(r, &entry, "name", "\"%.64s\" is no name of a network interface",
				  d->name);
		for (size_t i = 0; i + 1 < n && !r->err; i++) {
			const struct spec_net_device *o = &s->net_devices[i];

			if (!strcmp(o->name ? o->name : o->host_name,
				    d->name ? d->name : d->host_name))
				spec_fail(r, &entry, "name", "two devices get the same name");
		}
	}
	s->n_net_devices = n;
}

static bool is_below(const char *key, const char *prefix)
{
	size_t n = strlen(prefix);

	/* Both separators are in use: "net.ipv4.ip_forward" and "net/ipv4/conf/eth0.1/forwarding". */
	for (size_t i = 0; i < n; i++)
		if (key[i] != prefix[i] && !(key[i] == '/' && prefix[i] == '.'))
			return false;
	return prefix[n - 1] == '.' || !key[n];
}

/* ipc_namespaces(7), network_namespaces(7), uts_namespaces(7) */
static void check_sysctl(struct spec_reader *r, const struct spec_node *at, const struct spec *s)
{
	static const struct {
		const char *prefix;
		enum spec_ns_kind ns;
	} rules[] = {
		{ "net.", SPEC_NS_NETWORK },
		{ "fs.mqueue.", SPEC_NS_IPC },
		{ "kernel.msgmax", SPEC_NS_IPC },
		{ "kernel.msgmnb", SPEC_NS_IPC },
		{ "kernel.msgmni", SPEC_NS_IPC },
		{ "kernel.msg_next_id", SPEC_NS_IPC },
		{ "kernel.sem", SPEC_NS_IPC },
		{ "kernel.sem_next_id", SPEC_NS_IPC },
		{ "kernel.shmall", SPEC_NS_IPC },
		{ "kernel.shmmax", SPEC_NS_IPC },
		{ "kernel.shmmni", SPEC_NS_IPC },
		{ "kernel.shm_next_id", SPEC_NS_IPC },
		{ "kernel.shm_rmid_forced", SPEC_NS_IPC },
		{ "kernel.hostname", SPEC_NS_UTS },
		{ "kernel.domainname", SPEC_NS_UTS },
	};

	if (strstr(at->name, "..") || strchr("./", at->name[0])) {
		spec_fail(r, at, NULL, "no name of a kernel parameter");
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
		if (!is_below(at->name, rules[i].prefix))
			continue;
		if (!s->ns[rules[i].ns].given)
			spec_fail(r, at, NULL, "needs a namespace of type %s",
				  spec_ns_name(rules[i].ns));
		else if (s->hostname && is_below(at->name, "kernel.hostname"))
			spec_fail(r, at, NULL, "conflicts with hostname");
		else if (s->domainname && is_below(at->name, "kernel.domainname"))
			spec_fail(r, at, NULL, "conflicts with domainname");
		return;
	}
	spec_fail(r, at, NULL, "belongs to no namespace: setting it would change the host");
}

static void read_sysctl(struct spec_reader *r, const struct spec_node *at, struct spec *s)
{
	struct spec_node map, entry;
	struct lh_entry *e = NULL;
	const char *value;
	size_t n = 0;

	if (!spec_object(r, at, "sysctl", &map) || !json_object_object_length(map.json))
		return;
	s->sysctl = spec_alloc(r, (size_t)json_object_object_length(map.json), sizeof(*s->sysctl));
	while (!r->err && spec_entry(&map, &e, &entry) && spec_entry_text(r, &entry, &value)) {
		check_sysctl(r, &entry, s);
		s->sysctl[n].key = spec_copy(r, entry.name, strlen(entry.name));
		s->sysctl[n].value = spec_copy(r, value, strlen(value));
		n++;
	}
	s->n_sysctl = n;
}

static void read_paths(struct spec_reader *r, const struct spec_node *at, const char *key,
		       struct spec_strs *out)
{
	struct spec_node array = { .up = at, .name = key };

	spec_texts(r, at, key, out);
	for (size_t i = 0; i < out->n; i++) {
		struct spec_node item = { .up = &array, .index = i };

		if (out->v[i][0] != '/')
			spec_fail(r, &item, NULL, "\"%.128s\" is not an absolute path", out->v[i]);
	}
}

static void read_personality(struct spec_reader *r, const struct spec_node *at, struct spec *s)
{
	struct spec_node node, flags;

	if (!spec_object(r, at, "personality", &node))
		return;
	spec_require(r, &node, "domain",
		     spec_word(r, &node, "domain", personalities, ARRAY_SIZE(personalities),
			       "personality", &s->personality));
	if (spec_array(r, &node, "flags", &flags))
		spec_fail(r, &flags, NULL, "the spec defines no flags");
}

static void check_memory_policy(struct spec_reader *r, const struct spec_node *at, int64_t mode,
				int64_t flags, bool nodes)
{
	if ((mode == MPOL_DEFAULT || mode == MPOL_LOCAL) && nodes)
		spec_fail(r, at, "nodes", "this mode takes none");
	if (mode != MPOL_DEFAULT && mode != MPOL_LOCAL && mode != MPOL_PREFERRED && !nodes)
		spec_fail(r, at, "nodes", "this mode needs some");
	if (flags & MPOL_F_STATIC_NODES && flags & MPOL_F_RELATIVE_NODES)
		spec_fail(r, at, "flags",
			  "MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other");
	if (flags & MPOL_F_NUMA_BALANCING && mode != MPOL_BIND && mode != MPOL_PREFERRED_MANY)
		spec_fail(r, at, "flags",
			  "MPOL_F_NUMA_BALANCING is for MPOL_BIND and MPOL_PREFERRED_MANY");
}

static void read_memory_policy(struct spec_reader *r, const struct spec_node *at, struct spec *s)
{
	struct spec_node node, array;
	int64_t mode = 0, flags = 0, flag;
	const char *nodes = NULL;
	size_t n;

	if (!spec_object(r, at, "memoryPolicy", &node))
		return;
	spec_require(r, &node, "mode",
		     spec_word(r, &node, "mode", spec_mempolicy_words, spec_mempolicy_count,
			       "memory policy", &mode));
	if (spec_peek(r, &node, "nodes", &nodes) &&
	    !spec_list_valid(nodes, NODES, s->memory_policy.nodes))
		spec_fail(r, &node, "nodes", "\"%.64s\" is not a list of nodes below %zu", nodes,
			  NODES);
	n = spec_array(r, &node, "flags", &array);
	for (size_t i = 0;
	     i < n && spec_item_word(r, &array, i, spec_mempolicy_flag_words,
				     spec_mempolicy_flag_count, "memory policy flag", &flag);
	     i++)
		flags |= flag;
	check_memory_policy(r, &node, mode, flags, nodes != NULL);
	s->memory_policy.given = true;
	s->memory_policy.mode = (int)(mode | flags);
}

void spec_read_linux(struct spec_reader *r, const struct spec_node *at, struct spec *s)
{
	struct spec_node node;
	int64_t propagation = 0;

	read_namespaces(r, at, s);
	read_user_namespace(r, at, s);
	read_time_offsets(r, at, s);
	read_devices(r, at, s);
	read_net_devices(r, at, s);
	spec_text(r, at, "cgroupsPath", &s->cgroups_path);
	if (spec_object(r, at, "resources", &node)) {
		spec_read_resources(r, &node, s);
		s->resources = node.json;
	}
	if (spec_object(r, at, "seccomp", &node))
		s->seccomp = node.json;
	spec_word(r, at, "rootfsPropagation", spec_propagation_words, spec_propagation_count,
		  "propagation", &propagation);
	s->rootfs_propagation = (unsigned long)propagation;
	read_paths(r, at, "maskedPaths", &s->masked_paths);
	read_paths(r, at, "readonlyPaths", &s->readonly_paths);
	spec_text(r, at, "mountLabel", &s->mount_label);
	read_sysctl(r, at, s);
	read_personality(r, at, s);
	read_memory_policy(r, at, s);
	s->has_intel_rdt = spec_object(r, at, "intelRdt", &node);
}
