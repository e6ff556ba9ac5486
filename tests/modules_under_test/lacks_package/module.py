import a_package_that_nobody_has  # type: ignore[import-not-found]

from modules.dummy.module import Dummy


class LacksPackage(Dummy):
    wanted = a_package_that_nobody_has
