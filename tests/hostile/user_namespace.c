/* Without the filter a user namespace gives all capabilities over new mounts: masks stay locked, no new /proc shows what is
 * masked, no device is made usable, and the host's program stays read-only (CVE-2022-0492 and CVE-2022-0185 began so). */

#include "attack.h"

#define CLONE_NEWNS 0x00020000
#define CLONE_NEWUSER 0x10000000
#define MS_REMOUNT_BIND 0x1020
#define MNT_DETACH 2
#define OPEN_TREE_CLONE 1

static void attack(int argc, char **argv)
{
	struct { unsigned long set, clear, propagation, userns; } writable = { 0, 1, 0, 0 };
	long fd, tree;

	(void)argc;
	(void)argv;
	if (CALL(__NR_unshare, CLONE_NEWUSER | CLONE_NEWNS) < 0)
		return;
	refused("umount of a mask", CALL(__NR_umount2, "/proc/keys", MNT_DETACH), 0);
	refused("umount of /proc/sys", CALL(__NR_umount2, "/proc/sys", MNT_DETACH), 0);
	refused("umount of /proc", CALL(__NR_umount2, "/proc", MNT_DETACH), 0);
	refused("umount of /dev", CALL(__NR_umount2, "/dev", MNT_DETACH), 0);
	refused("/proc/sys writable", CALL(__NR_mount, 0, "/proc/sys", 0, MS_REMOUNT_BIND, 0), 0);
	refused("/sys writable", CALL(__NR_mount, 0, "/sys", 0, MS_REMOUNT_BIND, 0), 0);
	refused("devices in the root", CALL(__NR_mount, 0, "/", 0, MS_REMOUNT_BIND, 0), 0);
	refused("a new /proc", CALL(__NR_mount, "proc", "/tmp", "proc", 0, 0), 0);
	refused("a new /sys", CALL(__NR_mount, "sysfs", "/tmp", "sysfs", 0, 0), 0);
	refused("a copy of /proc without its masks", CALL(__NR_mount, "/proc", "/tmp", 0, 0x1000, 0), 0);
#ifdef LOADER
	/* This program is the image's loader: its exe is the host's. */
	fd = CALL(__NR_open, "/proc/self/exe", O_PATH);
	works("open", fd);
	refused("the exe writable", CALL(__NR_mount_setattr, fd, "", AT_EMPTY_PATH, &writable, sizeof(writable)), 0);
	refused("the exe writable", CALL(__NR_mount, 0, "/proc/self/exe", 0, MS_REMOUNT_BIND, 0), 0);
	tree = CALL(__NR_open_tree, fd, "", OPEN_TREE_CLONE | AT_EMPTY_PATH);
	refused("a copy of the exe's mount", tree, 0);
	if (tree >= 0)
		refused("and that writable",
			CALL(__NR_mount_setattr, tree, "", AT_EMPTY_PATH, &writable, sizeof(writable)), 0);
	refused("a bind of the exe", CALL(__NR_mount, "/proc/self/exe", "/bin/script", 0, 0x1000, 0), 0);
#else
	(void)fd;
	(void)tree;
	(void)writable;
#endif
}
