/* What the kernel's file systems would tell of the host, or let a command do to it: CVE-2015-3630, CVE-2023-25809,
 * CVE-2025-31133, CVE-2019-16884 and their like. */

#include "attack.h"

static int reads(const char *path)
{
	char byte;
	long fd = CALL(__NR_open, path, O_RDONLY | O_NONBLOCK);
	long got = fd < 0 ? fd : CALL(__NR_read, fd, &byte, 1);

	if (fd >= 0)
		CALL(__NR_close, fd);
	return got > 0;
}

/* How many names a directory has, without . and .. */
static long entries(const char *path)
{
	static char buffer[4096];
	long fd = CALL(__NR_open, path, O_RDONLY | O_DIRECTORY);
	long got, count = 0;

	if (fd < 0)
		return 0;
	while ((got = CALL(__NR_getdents64, fd, buffer, sizeof(buffer))) > 0) {
		char *at = buffer;

		while (at < buffer + got) {
			count++;
			at += *(unsigned short *)(at + 16);
		}
	}
	CALL(__NR_close, fd);
	return count > 2 ? count - 2 : 0;
}

static void attack(int argc, char **argv)
{
	static const char *const hidden[] = { "/proc/interrupts", "/proc/kcore",       "/proc/keys",
					      "/proc/latency_stats", "/proc/sched_debug", "/proc/timer_list",
					      "/proc/timer_stats" };
	static const char *const empty[] = { "/proc/acpi", "/proc/asound", "/proc/scsi", "/sys/firmware",
					     "/sys/devices/virtual/powercap",
					     "/sys/devices/system/cpu/cpu0/thermal_throttle" };
	static const char *const frozen[] = { "/proc/sysrq-trigger",
					      "/proc/sys/kernel/core_pattern",
					      "/proc/sys/kernel/modprobe",
					      "/proc/sys/kernel/hostname",
					      "/proc/sys/vm/drop_caches",
					      "/proc/sys/fs/binfmt_misc/register",
					      "/proc/irq/default_smp_affinity",
					      "/proc/bus/input/devices",
					      "/sys/kernel/uevent_helper",
					      "/sys/kernel/mm/transparent_hugepage/enabled",
					      "/sys/power/state",
					      "/sys/fs/cgroup/release_agent",
					      "/sys/module/fuse/parameters/max_user_bgreq",
					      "/proc/kcore",
					      "/proc/keys" };
	word at;

	(void)argc;
	(void)argv;
	for (at = 0; at < sizeof(hidden) / sizeof(*hidden); at++)
		refused(hidden[at], -!reads(hidden[at]), 0);
	for (at = 0; at < sizeof(empty) / sizeof(*empty); at++) {
		refused(empty[at], -!entries(empty[at]), 0);
		refused(empty[at], CALL(__NR_mkdir, "/sys/firmware/new", 0755), 0);
	}
	for (at = 0; at < sizeof(frozen) / sizeof(*frozen); at++) {
		long fd = CALL(__NR_open, frozen[at], O_WRONLY);

		/* A masked file is the null device: it takes all, and keeps nothing. */
		if (fd < 0 || frozen[at][6] == 'k')
			continue;
		refused(frozen[at], fd, 0);
	}
	refused("chmod of a masked file", CALL(__NR_chmod, "/proc/keys", 0666), 0);
	refused("removal of /proc/sys", CALL(__NR_unlink, "/proc/sys/kernel/hostname"), 0);
	refused("umount of a mask", CALL(__NR_umount2, "/proc/keys", 2), 0);
	refused("remount of /proc/sys", CALL(__NR_mount, 0, "/proc/sys", 0, 0x1020, 0), EPERM);
	refused("a new /proc", CALL(__NR_mount, "proc", "/tmp", "proc", 0, 0), EPERM);
	refused("a host's file system in /proc/self/mounts", CALL(__NR_open, "/proc/1/root/etc/shadow", O_RDONLY), 0);
}
