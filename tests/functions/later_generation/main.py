def main(context):
    if context.req.body == "nothing":
        return None
    context.log("got", context.req.body)
    context.error("told")
    return context.res.json({"body": context.req.body, "method": context.req.method}, 201)
