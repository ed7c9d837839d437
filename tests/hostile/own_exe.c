/* CVE-2019-5736: the image's dynamic loader. As such it runs with the host's program as its executable, and changes
 * that through /proc/self/exe. */

#include "attack.h"

#define FS_IOC_GETFLAGS 0x80086601
#define FS_IOC_SETFLAGS 0x40086602
#define FS_NOATIME_FL 0x80

static void change(const char *exe)
{
	long fd, reader, got;
	long flags = 0;
	long times[4] = { 1, 0, 1, 0 };
	char again[] = "/proc/self/fd/?";

	refused("chmod", CALL(__NR_chmod, exe, 04777), EROFS);
	refused("chown", CALL(__NR_chown, exe, 1234, 1234), EROFS);
	refused("setxattr", CALL(__NR_setxattr, exe, "user.layerctl-attack", "x", 1, 0), EROFS);
	refused("set a capability", CALL(__NR_setxattr, exe, "security.capability", "x", 1, 0), EROFS);
	refused("removexattr", CALL(__NR_removexattr, exe, "user.mark"), EROFS);
	refused("utimensat", CALL(__NR_utimensat, AT_FDCWD, exe, times, 0), EROFS);
	refused("truncate", CALL(__NR_truncate, exe, 0), 0);
	refused("link", CALL(__NR_linkat, AT_FDCWD, exe, AT_FDCWD, "/stolen", 0x400), 0);
	fd = CALL(__NR_open, exe, O_WRONLY);
	refused("open for writing", fd, 0);
	reader = CALL(__NR_open, exe, O_RDONLY);
	works("open for reading", reader);
	refused("fchmod", CALL(__NR_fchmod, reader, 04777), EROFS);
	refused("fchown", CALL(__NR_fchown, reader, 1234, 1234), EROFS);
	again[sizeof(again) - 2] = '0' + reader;
	refused("open the descriptor for writing", CALL(__NR_open, again, O_RDWR), 0);
	got = CALL(__NR_ioctl, reader, FS_IOC_GETFLAGS, &flags);
	flags |= FS_NOATIME_FL;
	if (got >= 0)
		refused("chattr +A", CALL(__NR_ioctl, reader, FS_IOC_SETFLAGS, &flags), 0);
}

static void attack(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	change("/proc/self/exe");
	/* Init: it may be hidden, but must not be changed. */
	refused("chmod of init's", CALL(__NR_chmod, "/proc/1/exe", 04777), 0);
	refused("open of init's", CALL(__NR_open, "/proc/1/exe", O_WRONLY), 0);
}
