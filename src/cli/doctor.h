// SPDX-License-Identifier: Apache-2.0
/*
 * davit doctor: the findings and those who look
 */
#pragma once

#include <json-c/json.h>

#include "cli/cli.h"

/* works; something is lost; davit cannot run */
enum doctor_level { DOCTOR_OK, DOCTOR_NOTE, DOCTOR_BAD };

/*
 * Adds a finding. group and name are short; detail says what is there or what is lost without it.
 */
void doctor_add(json_object *findings, const char *group, const char *name, enum doctor_level level,
		const char *detail, ...) __attribute__((format(printf, 5, 6)));

void doctor_kernel(json_object *findings); /* version, features */
void doctor_cgroups(json_object *findings); /* layout, controllers */
void doctor_limits(json_object *findings); /* numbers that bound how many containers there may be */
void doctor_files(json_object *findings); /* --root and --state */
void doctor_criu(json_object *findings, const char *path); /* runs `criu check` */
