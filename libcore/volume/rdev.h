/* SPDX-License-Identifier: Apache-2.0 */
/* rdev.h: device numbers, as stored: what new_encode_dev() of the kernel makes. */
#ifndef KS_VOLUME_RDEV_H
#define KS_VOLUME_RDEV_H

#include "base/def.h"
#include <sys/sysmacros.h>

static inline uint32_t ks_rdev_encode(dev_t dev)
{
	uint32_t maj = major(dev);
	uint32_t min = minor(dev);

	return (min & 0xff) | (maj << 8) | ((min & ~0xffu) << 12);
}

static inline dev_t ks_rdev_decode(uint32_t rdev)
{
	return makedev((rdev & 0xfff00) >> 8, (rdev & 0xff) | ((rdev >> 12) & 0xfff00));
}

#endif
