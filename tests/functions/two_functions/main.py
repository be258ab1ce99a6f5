def first(a):
    return a


def second(a):
    return a
