def fail():
    try:
        {}["key"]
    except KeyError as error:
        raise ValueError("no luck") from error
