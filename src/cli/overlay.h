// SPDX-License-Identifier: Apache-2.0
/*
 * Overlays of many layers: their options with short paths
 *
 * mount(2) reads a page of options and ignores what follows, without a word: such an overlay would
 * lack its last layers, or have a wrong folder as the last. So whoever mounts goes to the folder that
 * all of them lie in, gives them relative to it, and refuses what is too long even so.
 */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>

/* The folder that all paths of the options lie in, with its final '/'; "" for none. To be freed. */
char *overlay_folder(json_object *options);
/* One option, its paths relative to the folder; "": as they are. To be freed. */
char *overlay_relative(const char *option, const char *folder);
/* Whether mount(2) reads all of it. */
bool overlay_fits(const char *data);
